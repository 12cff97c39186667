//! Tests of what only these rows have: their file, its damage, and its versions.

mod alike;
mod damage;
mod files;
mod pieces;
mod power;
mod sample;
mod values;
mod versions;
mod whole;
