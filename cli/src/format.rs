//! What commands print: tables, JSON, templates, quiet ids; one way for every list and every inspect.
//!
//! Rows are JSON values in Docker's field names (`shape/`); a [`Columns`] says which of them the default table shows.

use std::io::{self, IsTerminal};

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;

use crate::error::CliError;

mod template;

pub(crate) use template::{Template, TemplateError};

/// The default table of a list: a heading and a template for each column.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Columns(pub(crate) &'static [(&'static str, &'static str)]);

/// How a list was asked for.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct ListFormat {
    /// Only show ids
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// `table`, `json` (one object a line), or a template such as '{{.Name}}' or 'table {{.ID}}\t{{.Name}}'
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// Do not shorten ids
    #[arg(long)]
    pub(crate) no_trunc: bool,
}

/// Prints a list. Quiet shows the field `ID`.
pub(crate) fn print_list(
    rows: &[Value],
    columns: Columns,
    how: &ListFormat,
) -> Result<(), CliError> {
    let format = how.format.as_deref().unwrap_or("table");
    let text = match format {
        _ if how.quiet && how.format.is_none() => lines(rows, "{{.ID}}")?,
        "json" => rows.iter().flat_map(|r| [r.to_string(), "\n".to_owned()]).collect(),
        "table" => default_table(rows, columns)?,
        _ => match format.strip_prefix("table ") {
            Some(template) => custom_table(rows, &unescape(template))?,
            None => lines(rows, &unescape(format))?,
        },
    };
    emit(&text);
    Ok(())
}

/// Prints what `inspect` found: a JSON array, or a template run on each object.
pub(crate) fn print_inspect(objects: &[Value], format: Option<&str>) -> Result<(), CliError> {
    let text = match format {
        None | Some("json") if objects.is_empty() => "[]\n".to_owned(),
        None | Some("json") => {
            let all = Value::Array(objects.to_vec());
            serde_json::to_string_pretty(&all).expect("JSON values print") + "\n"
        }
        Some(template) => lines(objects, &unescape(template))?,
    };
    emit(&text);
    Ok(())
}

/// Prints a one-line answer.
pub(crate) fn print_line(line: &str) {
    emit(&format!("{line}\n"));
}

/// How objects are printed that come one by one.
#[derive(Debug)]
pub(crate) enum Lines {
    Plain,
    Json,
    Template(Template),
}

impl Lines {
    /// # Errors
    /// Usage: the template is wrong.
    pub(crate) fn parse(format: Option<&str>) -> Result<Self, CliError> {
        Ok(match format {
            None => Self::Plain,
            Some("json") => Self::Json,
            Some(template) => Self::Template(Template::parse(&unescape(template))?),
        })
    }

    /// Prints one object, as `plain` says it without a format. `false`: nobody reads any more.
    pub(crate) fn print(
        &self,
        row: &Value,
        plain: impl FnOnce() -> String,
    ) -> Result<bool, CliError> {
        let line = match self {
            Self::Plain => plain(),
            Self::Json => row.to_string(),
            Self::Template(template) => template.run(row)?,
        };
        Ok(write(&format!("{line}\n")).is_ok())
    }
}

/// Writes to standard output; a reader that went away (`| head`) is no error.
pub(crate) fn emit(text: &str) {
    drop(write(text));
}

fn write(text: &str) -> io::Result<()> {
    use std::io::Write as _;
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

fn lines(rows: &[Value], template: &str) -> Result<String, CliError> {
    let template = Template::parse(template)?;
    let mut out = String::new();
    for row in rows {
        out += &template.run(row)?;
        if !out.ends_with('\n') {
            out.push('\n');
        }
    }
    Ok(out)
}

fn default_table(rows: &[Value], columns: Columns) -> Result<String, CliError> {
    let templates =
        columns.0.iter().map(|(_, t)| Template::parse(t)).collect::<Result<Vec<_>, _>>()?;
    let heads = columns.0.iter().map(|(head, _)| (*head).to_owned()).collect();
    table(heads, &templates, rows)
}

/// `{{.ID}}\t{{.Name}}`: the headings are the fields' names, as Docker makes them.
fn custom_table(rows: &[Value], template: &str) -> Result<String, CliError> {
    let cells: Vec<_> = template.split('\t').collect();
    let heads = cells.iter().map(|cell| heading(cell)).collect();
    let templates = cells.iter().map(|c| Template::parse(c)).collect::<Result<Vec<_>, _>>()?;
    table(heads, &templates, rows)
}

/// `{{.CreatedAt}}` → `CREATED AT`.
fn heading(cell: &str) -> String {
    let name: String =
        cell.rsplit('.').next().unwrap_or(cell).chars().filter(|c| c.is_alphanumeric()).collect();
    let mut out = String::new();
    let mut lower = false;
    for c in name.chars() {
        if c.is_uppercase() && lower {
            out.push(' ');
        }
        lower = c.is_lowercase();
        out.extend(c.to_uppercase());
    }
    out
}

fn table(heads: Vec<String>, templates: &[Template], rows: &[Value]) -> Result<String, CliError> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(heads);
    for row in rows {
        let cells = templates.iter().map(|t| t.run(row)).collect::<Result<Vec<_>, _>>()?;
        table.add_row(cells);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    Ok(table.lines().map(|line| line.trim_end().to_owned() + "\n").collect())
}

/// Shells hand over `\t` as two characters.
fn unescape(template: &str) -> String {
    template.replace("\\t", "\t").replace("\\n", "\n")
}

/// May progress be drawn?
pub(crate) fn interactive() -> bool {
    io::stderr().is_terminal()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tables_align_and_custom_headings_follow_fields() {
        let rows = [json!({"ID": "a", "CreatedAt": "x"}), json!({"ID": "bbbb", "CreatedAt": "y"})];
        let got = custom_table(&rows, &unescape("{{.ID}}\\t{{.CreatedAt}}")).expect("valid");
        assert_eq!(got, "ID     CREATED AT\na      x\nbbbb   y\n");
    }
}
