//! A tree and a JSON value into text.

use std::fmt::Write as _;

use serde_json::Value;

use super::TemplateError;
use super::parse::{Node, Operand, Pipe};

/// Every function a template may call.
const FUNCTIONS: [&str; 17] = [
    "and", "eq", "index", "join", "json", "len", "lower", "ne", "not", "or", "print", "printf",
    "println", "split", "title", "truncate", "upper",
];
const FUNCTION_LIST: &str = "and, eq, index, join, json, len, lower, ne, not, or, print, printf, println, split, title, truncate, upper";

pub(super) fn known_function(name: &str) -> Result<&'static str, TemplateError> {
    FUNCTIONS
        .into_iter()
        .find(|f| *f == name)
        .ok_or_else(|| TemplateError::NoFunction { name: name.to_owned(), have: FUNCTION_LIST })
}

pub(super) fn run(nodes: &[Node], data: &Value) -> Result<String, TemplateError> {
    let mut run = Run { out: String::new(), vars: vec![(String::new(), data.clone())], root: data };
    run.nodes(nodes, data)?;
    Ok(run.out)
}

struct Run<'a> {
    out: String,
    /// Innermost last; `$` has the empty name.
    vars: Vec<(String, Value)>,
    root: &'a Value,
}

impl Run<'_> {
    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<(), TemplateError> {
        let scope = self.vars.len();
        for node in nodes {
            self.node(node, dot)?;
        }
        self.vars.truncate(scope);
        Ok(())
    }

    fn node(&mut self, node: &Node, dot: &Value) -> Result<(), TemplateError> {
        match node {
            Node::Literal(text) => self.out.push_str(text),
            Node::Print(pipe) => {
                let value = self.pipe(pipe, dot)?;
                self.out.push_str(&text(&value));
            }
            Node::Set { name, pipe } => {
                let value = self.pipe(pipe, dot)?;
                self.vars.push((name.clone(), value));
            }
            Node::If { pipe, then, otherwise } => {
                let branch = if truth(&self.pipe(pipe, dot)?) { then } else { otherwise };
                self.nodes(branch, dot)?;
            }
            Node::With { pipe, then, otherwise } => {
                let value = self.pipe(pipe, dot)?;
                if truth(&value) {
                    self.nodes(then, &value)?;
                } else {
                    self.nodes(otherwise, dot)?;
                }
            }
            Node::Range { vars, pipe, body, otherwise } => {
                let items = items(self.pipe(pipe, dot)?)?;
                if items.is_empty() {
                    self.nodes(otherwise, dot)?;
                }
                for (key, value) in items {
                    let scope = self.vars.len();
                    match vars.as_slice() {
                        [v] => self.vars.push((v.clone(), value.clone())),
                        [k, v] => {
                            self.vars.push((k.clone(), key));
                            self.vars.push((v.clone(), value.clone()));
                        }
                        _ => {}
                    }
                    self.nodes(body, &value)?;
                    self.vars.truncate(scope);
                }
            }
        }
        Ok(())
    }

    fn pipe(&self, pipe: &Pipe, dot: &Value) -> Result<Value, TemplateError> {
        let mut result = None;
        for command in &pipe.commands {
            result = Some(self.command(command, dot, result)?);
        }
        Ok(result.unwrap_or(Value::Null))
    }

    fn command(
        &self,
        operands: &[Operand],
        dot: &Value,
        piped: Option<Value>,
    ) -> Result<Value, TemplateError> {
        let Some((Operand::Function(name), args)) = operands.split_first() else {
            return match operands {
                [one] if piped.is_none() => self.operand(one, dot),
                _ => Err(TemplateError::Unexpected {
                    token: "value".to_owned(),
                    hint: ": only functions take arguments",
                }),
            };
        };
        let mut args = args.iter().map(|a| self.operand(a, dot)).collect::<Result<Vec<_>, _>>()?;
        args.extend(piped);
        call(name, &args)
    }

    fn operand(&self, operand: &Operand, dot: &Value) -> Result<Value, TemplateError> {
        match operand {
            Operand::Dot => Ok(dot.clone()),
            Operand::Field(path) => self.walk(dot, path),
            Operand::Variable(name, path) => {
                let found = self.vars.iter().rev().find(|(n, _)| n == name);
                let (_, value) =
                    found.ok_or_else(|| TemplateError::NoVariable { name: name.clone() })?;
                self.walk(value, path)
            }
            Operand::Constant(value) => Ok(value.clone()),
            Operand::Function(name) => call(name, &[]),
            Operand::Nested(pipe, path) => self.walk(&self.pipe(pipe, dot)?, path),
        }
    }

    /// A field unknown at the top is a mistake of the writer; deeper down it may be a label that is not set.
    fn walk(&self, from: &Value, path: &[String]) -> Result<Value, TemplateError> {
        let mut value = from;
        for name in path {
            match value.get(name) {
                Some(next) => value = next,
                None if std::ptr::eq(value, self.root) || *value == *self.root => {
                    return Err(TemplateError::NoField { field: name.clone(), have: keys(value) });
                }
                None => return Ok(Value::Null),
            }
        }
        Ok(value.clone())
    }
}

fn keys(value: &Value) -> String {
    value.as_object().map(|o| o.keys().cloned().collect::<Vec<_>>().join(", ")).unwrap_or_default()
}

fn items(value: Value) -> Result<Vec<(Value, Value)>, TemplateError> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Array(items) => {
            Ok(items.into_iter().enumerate().map(|(i, v)| (Value::from(i), v)).collect())
        }
        Value::Object(map) => Ok(map.into_iter().map(|(k, v)| (Value::from(k), v)).collect()),
        other => Err(TemplateError::Call {
            function: "range",
            problem: format!("can't iterate over {}", text(&other)),
        }),
    }
}

/// Go's truth: not the zero value.
fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(b) => *b,
        Value::Number(n) => n.as_f64() != Some(0.0),
        Value::String(s) => !s.is_empty(),
        Value::Array(a) => !a.is_empty(),
        Value::Object(o) => !o.is_empty(),
    }
}

/// As Go's `fmt.Print` shows a value.
fn text(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::String(s) => s.clone(),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(text).collect::<Vec<_>>().join(" "))
        }
        Value::Object(map) => {
            let pairs: Vec<_> = map.iter().map(|(k, v)| format!("{k}:{}", text(v))).collect();
            format!("map[{}]", pairs.join(" "))
        }
        other => other.to_string(),
    }
}

fn call(name: &str, args: &[Value]) -> Result<Value, TemplateError> {
    let function = known_function(name)?;
    let fail = |problem: String| TemplateError::Call { function, problem };
    let arg = |i: usize| args.get(i).ok_or_else(|| fail(format!("want argument {}", i + 1)));
    Ok(match function {
        "json" => Value::from(arg(0)?.to_string()),
        "len" => Value::from(match arg(0)? {
            Value::Array(a) => a.len(),
            Value::Object(o) => o.len(),
            Value::String(s) => s.len(),
            other => return Err(fail(format!("{} has no length", text(other)))),
        }),
        "index" => args[1..].iter().fold(arg(0)?.clone(), |at, key| index(&at, key)),
        "upper" => Value::from(text(arg(0)?).to_uppercase()),
        "lower" => Value::from(text(arg(0)?).to_lowercase()),
        "title" => Value::from(title(&text(arg(0)?))),
        "join" => {
            let items = items(arg(0)?.clone())?;
            let separator = text(arg(1)?);
            Value::from(items.iter().map(|(_, v)| text(v)).collect::<Vec<_>>().join(&separator))
        }
        "split" => text(arg(0)?).split(&text(arg(1)?)).map(Value::from).collect(),
        "truncate" => {
            let len = arg(1)?.as_u64().ok_or_else(|| fail("want a length".into()))?;
            let len = usize::try_from(len).unwrap_or(usize::MAX);
            Value::from(text(arg(0)?).chars().take(len).collect::<String>())
        }
        "eq" => Value::from(args[1..].iter().any(|a| same(&args[0], a))),
        "ne" => Value::from(!same(arg(0)?, arg(1)?)),
        "not" => Value::from(!truth(arg(0)?)),
        "and" => args.iter().find(|a| !truth(a)).or(args.last()).cloned().unwrap_or(Value::Null),
        "or" => args.iter().find(|a| truth(a)).or(args.last()).cloned().unwrap_or(Value::Null),
        "println" => Value::from(words(args) + "\n"),
        "printf" => Value::from(printf(&text(arg(0)?), &args[1..])),
        _ => Value::from(words(args)),
    })
}

fn words(args: &[Value]) -> String {
    args.iter().map(text).collect::<Vec<_>>().join(" ")
}

fn same(a: &Value, b: &Value) -> bool {
    a == b || (a.is_number() && b.is_number() && a.as_f64() == b.as_f64())
}

fn index(at: &Value, key: &Value) -> Value {
    let found = match key {
        Value::Number(n) => n.as_u64().and_then(|i| at.get(usize::try_from(i).ok()?)),
        key => at.get(text(key)),
    };
    found.cloned().unwrap_or(Value::Null)
}

fn title(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|c| c.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// `%s %v %d %q %t %%`; a width is honoured, left-aligned with `-`.
fn printf(format: &str, args: &[Value]) -> String {
    let (mut out, mut args) = (String::new(), args.iter());
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let left = chars.next_if_eq(&'-').is_some();
        let mut width = 0;
        while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
            width = (width * 10 + digit as usize).min(1_000);
            chars.next();
        }
        let word = match chars.next() {
            Some('%') => "%".to_owned(),
            Some('q') => format!("{:?}", args.next().map(text).unwrap_or_default()),
            Some(_) => args.next().map_or_else(|| "%!(MISSING)".to_owned(), text),
            None => "%!(NOVERB)".to_owned(),
        };
        let written =
            if left { write!(out, "{word:<width$}") } else { write!(out, "{word:>width$}") };
        written.expect("a String takes everything");
    }
    out
}
