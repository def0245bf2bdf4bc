//! The subset of Go's text/template that Docker users write behind `--format`: fields, variables, `if`, `range`, `with`,
//! pipelines, and the functions `json index len join split upper lower title println print printf eq ne and or not truncate`.
//!
//! Templates are parsed once into [`Template`] and run over JSON values. Pure.
//! Source of the semantics: <https://pkg.go.dev/text/template>.

mod eval;
mod lex;
mod parse;

use serde_json::Value;

/// Why a template cannot be used. One line each.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TemplateError {
    #[error("template parsing error: unclosed action in `{text}`")]
    Unclosed { text: String },
    #[error("template parsing error: unexpected `{token}`{hint}")]
    Unexpected { token: String, hint: &'static str },
    #[error("template parsing error: unterminated string in `{text}`")]
    UnterminatedString { text: String },
    #[error("template parsing error: missing {{{{end}}}}")]
    NoEnd,
    #[error("template parsing error: function `{name}` not defined (have: {have})")]
    NoFunction { name: String, have: &'static str },
    #[error("template: no field `{field}` here (have: {have})")]
    NoField { field: String, have: String },
    #[error("template: undefined variable `${name}`")]
    NoVariable { name: String },
    #[error("template: {function}: {problem}")]
    Call { function: &'static str, problem: String },
}

/// A parsed template.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Template {
    nodes: Vec<parse::Node>,
}

impl Template {
    /// # Errors
    /// The parsing variants of [`TemplateError`].
    pub(crate) fn parse(text: &str) -> Result<Self, TemplateError> {
        Ok(Self { nodes: parse::parse(lex::lex(text)?)? })
    }

    /// Runs the template with `data` as dot.
    ///
    /// # Errors
    /// The executing variants of [`TemplateError`].
    pub(crate) fn run(&self, data: &Value) -> Result<String, TemplateError> {
        eval::run(&self.nodes, data)
    }
}

#[cfg(test)]
mod tests;
