//! What is particular to these rows: their file, its damage, its versions.

mod alike;
mod damage;
mod files;
mod pieces;
mod power;
mod sample;
mod values;
mod versions;
mod whole;
