//! Reads the constants of the crates from their sources. This includes constants of private modules, which a test
//! cannot name.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result, bail};
use syn::{BinOp, Expr, Item, Lit};

use super::workspace;

/// The value of a constant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value {
    Whole(i128),
    Fraction(f64),
    Seconds(f64),
    /// The ends of a range.
    Range(f64, f64),
}

/// The folders of the crates, and their names in paths.
const CRATES: [(&str, &str); 8] = [
    ("mcp-core", "mcp_core"),
    ("p2p-taskqueue", "p2p_taskqueue"),
    ("p2p-taskqueue/api", "api"),
    ("p2p-taskqueue/mesh", "mesh"),
    ("p2p-taskqueue/store", "store"),
    ("p2p-taskqueue/worker", "worker"),
    ("runtime-bridge", "runtime_bridge"),
    ("server-bin", "server_bin"),
];

/// Every constant of the crates, by its path, such as `api::limits::NAME_BYTES_MAX`.
pub(super) struct Constants(BTreeMap<String, Expr>);

impl Constants {
    pub(super) fn read() -> Result<Self> {
        let mut constants = BTreeMap::new();
        for (folder, name) in CRATES {
            read_folder(&workspace().join(folder).join("src"), name, &mut constants)?;
        }
        Ok(Self(constants))
    }

    pub(super) fn paths(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Returns the whole path of the only constant whose path ends with `end`.
    pub(super) fn find(&self, end: &str) -> Result<&str> {
        let ends = |path: &&str| *path == end || path.ends_with(&format!("::{end}"));
        let mut found = self.paths().filter(ends);
        let path = found.next().with_context(|| format!("no constant {end}"))?;
        match found.next() {
            Some(other) => bail!("{end} may be {path} or {other}"),
            None => Ok(path),
        }
    }

    pub(super) fn value(&self, path: &str) -> Result<Value> {
        let expression = self.0.get(path).with_context(|| format!("no constant {path}"))?;
        self.evaluate(expression, path).with_context(|| format!("the value of {path} is not understood"))
    }

    fn evaluate(&self, expression: &Expr, at: &str) -> Result<Value> {
        Ok(match expression {
            Expr::Lit(literal) => match &literal.lit {
                Lit::Int(number) => Value::Whole(number.base10_parse()?),
                Lit::Float(number) => Value::Fraction(number.base10_parse()?),
                _ => bail!("no number"),
            },
            Expr::Paren(inner) => self.evaluate(&inner.expr, at)?,
            Expr::Cast(inner) => self.evaluate(&inner.expr, at)?,
            Expr::Binary(operation) => {
                let (left, right) = (self.evaluate(&operation.left, at)?, self.evaluate(&operation.right, at)?);
                calculate(&operation.op, left, right)?
            }
            Expr::Range(range) => {
                let end = |end: &Option<Box<Expr>>| {
                    self.evaluate(end.as_deref().context("a range without an end")?, at)?.number()
                };
                Value::Range(end(&range.start)?, end(&range.end)?)
            }
            // A constant that is smaller under test: the other branch counts.
            Expr::If(choice) => {
                let (_, otherwise) = choice.else_branch.as_ref().context("no else")?;
                self.evaluate(otherwise, at)?
            }
            Expr::Block(block) => match block.block.stmts.as_slice() {
                [syn::Stmt::Expr(only, None)] => self.evaluate(only, at)?,
                _ => bail!("more than a value"),
            },
            Expr::Call(call) => self.call(call, at)?,
            Expr::MethodCall(call) if call.method == "saturating_mul" => {
                let factor = call.args.first().context("no factor")?;
                calculate(
                    &BinOp::Mul(Default::default()),
                    self.evaluate(&call.receiver, at)?,
                    self.evaluate(factor, at)?,
                )?
            }
            Expr::Path(path) => {
                let names: Vec<_> = path.path.segments.iter().map(|part| part.ident.to_string()).collect();
                let names = names.join("::").replace("crate::", "").replace("super::", "");
                self.value(&self.near(&names, at)?)?
            }
            _ => bail!("this kind of expression is not read here"),
        })
    }

    /// Evaluates a call that makes a span of time from a number.
    fn call(&self, call: &syn::ExprCall, at: &str) -> Result<Value> {
        let Expr::Path(function) = &*call.func else { bail!("no function") };
        let function = function.path.segments.last().context("no function")?.ident.to_string();
        let number = self.evaluate(call.args.first().context("no argument")?, at)?.number()?;
        Ok(Value::Seconds(match function.as_str() {
            "from_secs" => number,
            "from_millis" => number / 1e3,
            "from_micros" => number / 1e6,
            _ => bail!("the function {function} is not read here"),
        }))
    }

    /// Returns the constant that a name means at the place of its use: one of the same file, otherwise the only one.
    fn near(&self, name: &str, at: &str) -> Result<String> {
        let module = at.rsplit_once("::").map_or("", |(module, _)| module);
        let here = format!("{module}::{name}");
        if self.0.contains_key(&here) { Ok(here) } else { Ok(self.find(name)?.to_owned()) }
    }
}

impl Value {
    pub(super) fn number(self) -> Result<f64> {
        Ok(match self {
            #[expect(clippy::cast_precision_loss, reason = "bounds are small")]
            Self::Whole(number) => number as f64,
            Self::Fraction(number) | Self::Seconds(number) => number,
            Self::Range(..) => bail!("a range is no number"),
        })
    }
}

fn calculate(operation: &BinOp, left: Value, right: Value) -> Result<Value> {
    if let (Value::Whole(left), Value::Whole(right)) = (left, right) {
        return Ok(Value::Whole(match operation {
            BinOp::Add(_) => left + right,
            BinOp::Sub(_) => left - right,
            BinOp::Mul(_) => left * right,
            BinOp::Div(_) => left / right,
            BinOp::Shl(_) => left << right,
            _ => bail!("this operation is not read here"),
        }));
    }
    let is_span = matches!((left, right), (Value::Seconds(_), _) | (_, Value::Seconds(_)));
    let (left, right) = (left.number()?, right.number()?);
    let number = match operation {
        BinOp::Add(_) => left + right,
        BinOp::Sub(_) => left - right,
        BinOp::Mul(_) => left * right,
        BinOp::Div(_) => left / right,
        _ => bail!("this operation is not read here"),
    };
    Ok(if is_span { Value::Seconds(number) } else { Value::Fraction(number) })
}

fn read_folder(folder: &Path, module: &str, constants: &mut BTreeMap<String, Expr>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_stem().and_then(|name| name.to_str()).context("a name that is no text")?;
        if name.ends_with("tests") || matches!(name, "model" | "conformance" | "testing") {
            continue;
        }
        if path.is_dir() {
            read_folder(&path, &format!("{module}::{name}"), constants)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let file = syn::parse_file(&fs::read_to_string(&path)?).with_context(|| path.display().to_string())?;
            let inner =
                if matches!(name, "mod" | "lib" | "main") { module.to_owned() } else { format!("{module}::{name}") };
            let found = file.items.into_iter().filter_map(|item| match item {
                Item::Const(constant) => Some((format!("{inner}::{}", constant.ident), *constant.expr)),
                _ => None,
            });
            constants.extend(found);
        }
    }
    Ok(())
}
