//! Text into pieces: literal text, and the words of each `{{ action }}`.

use super::TemplateError;

/// One word of an action.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// `.`
    Dot,
    /// `.A.B`
    Field(Vec<String>),
    /// `$`, `$x`, `$x.A`
    Variable(String, Vec<String>),
    Word(String),
    Text(String),
    Number(serde_json::Number),
    Pipe,
    Comma,
    /// `:=` or `=`
    Assign,
    Open,
    Close,
}

/// A stretch of the template.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Piece {
    Literal(String),
    Action(Vec<Token>),
}

pub(super) fn lex(mut text: &str) -> Result<Vec<Piece>, TemplateError> {
    let mut pieces = Vec::new();
    let mut trim_next = false;
    while !text.is_empty() {
        let Some(at) = text.find("{{") else {
            push_literal(&mut pieces, text, trim_next);
            break;
        };
        let (mut before, rest) = (&text[..at], &text[at + 2..]);
        let end = action_end(rest).ok_or_else(|| TemplateError::Unclosed { text: text.into() })?;
        let mut action = &rest[..end];
        if let Some(stripped) = action.strip_prefix("- ") {
            before = before.trim_end();
            action = stripped;
        }
        push_literal(&mut pieces, before, trim_next);
        trim_next = action.ends_with(" -");
        let action = action.strip_suffix(" -").unwrap_or(action);
        if !action.trim_start().starts_with("/*") {
            pieces.push(Piece::Action(words(action)?));
        }
        text = &rest[end + 2..];
    }
    Ok(pieces)
}

fn push_literal(pieces: &mut Vec<Piece>, text: &str, trim_start: bool) {
    let text = if trim_start { text.trim_start() } else { text };
    if !text.is_empty() {
        pieces.push(Piece::Literal(text.to_owned()));
    }
}

/// Where the `}}` stands that is not inside a string.
fn action_end(text: &str) -> Option<usize> {
    let (mut quote, mut escaped) = (None, false);
    for (i, c) in text.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some('"') if c == '\\' => escaped = true,
            Some(q) if c == q => quote = None,
            None if c == '"' || c == '`' => quote = Some(c),
            None if text[i..].starts_with("}}") => return Some(i),
            _ => {}
        }
    }
    None
}

fn words(action: &str) -> Result<Vec<Token>, TemplateError> {
    let mut tokens = Vec::new();
    let mut rest = action.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, used) = word(first, rest, action)?;
        tokens.push(token);
        rest = rest[used..].trim_start();
    }
    Ok(tokens)
}

fn word(first: char, rest: &str, action: &str) -> Result<(Token, usize), TemplateError> {
    let single = |token| Ok((token, first.len_utf8()));
    match first {
        '|' => single(Token::Pipe),
        ',' => single(Token::Comma),
        '(' => single(Token::Open),
        ')' => single(Token::Close),
        '=' => single(Token::Assign),
        ':' if rest.starts_with(":=") => Ok((Token::Assign, 2)),
        '"' | '`' => string(first, rest, action),
        '.' => {
            let (path, used) = path(rest);
            Ok((if path.is_empty() { Token::Dot } else { Token::Field(path) }, used.max(1)))
        }
        '$' => {
            let name = ident(&rest[1..]);
            let (path, used) = path(&rest[1 + name.len()..]);
            Ok((Token::Variable(name.to_owned(), path), 1 + name.len() + used))
        }
        '0'..='9' | '-' => number(rest),
        _ => {
            let name = ident(rest);
            if name.is_empty() {
                return Err(TemplateError::Unexpected { token: first.into(), hint: "" });
            }
            Ok((Token::Word(name.to_owned()), name.len()))
        }
    }
}

fn ident(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

/// The names of `.A.B`, and how many bytes that was.
fn path(text: &str) -> (Vec<String>, usize) {
    let (mut names, mut used) = (Vec::new(), 0);
    while let Some(rest) = text[used..].strip_prefix('.') {
        let name = ident(rest);
        if name.is_empty() {
            break;
        }
        names.push(name.to_owned());
        used += 1 + name.len();
    }
    (names, used)
}

fn number(text: &str) -> Result<(Token, usize), TemplateError> {
    let end = text
        .char_indices()
        .find(|(i, c)| !(c.is_ascii_digit() || *c == '.' || (*i == 0 && *c == '-')))
        .map_or(text.len(), |(i, _)| i);
    let number = serde_json::from_str(&text[..end])
        .map_err(|_| TemplateError::Unexpected { token: text[..end.max(1)].into(), hint: "" })?;
    Ok((Token::Number(number), end))
}

fn string(quote: char, text: &str, action: &str) -> Result<(Token, usize), TemplateError> {
    let unterminated = || TemplateError::UnterminatedString { text: action.to_owned() };
    let body = &text[1..];
    if quote == '`' {
        let end = body.find('`').ok_or_else(unterminated)?;
        return Ok((Token::Text(body[..end].to_owned()), end + 2));
    }
    let (mut out, mut chars) = (String::new(), body.char_indices());
    while let Some((i, c)) = chars.next() {
        match c {
            '"' => return Ok((Token::Text(out), i + 2)),
            '\\' => out.push(escape(chars.next().ok_or_else(unterminated)?.1)),
            _ => out.push(c),
        }
    }
    Err(unterminated())
}

/// What a backslash and this character stand for.
pub(super) fn escape(c: char) -> char {
    match c {
        't' => '\t',
        'n' => '\n',
        'r' => '\r',
        c => c,
    }
}
