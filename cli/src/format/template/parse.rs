//! Pieces into a tree.

use serde_json::Value;

use super::TemplateError;
use super::lex::{Piece, Token};

/// One element of a template.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Literal(String),
    Print(Pipe),
    Set {
        name: String,
        pipe: Pipe,
    },
    If {
        pipe: Pipe,
        then: Vec<Node>,
        otherwise: Vec<Node>,
    },
    With {
        pipe: Pipe,
        then: Vec<Node>,
        otherwise: Vec<Node>,
    },
    /// `vars`: none, the value, or key and value.
    Range {
        vars: Vec<String>,
        pipe: Pipe,
        body: Vec<Node>,
        otherwise: Vec<Node>,
    },
}

/// `a | b | c`: each command gets the result before it as its last argument.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pipe {
    pub(super) commands: Vec<Vec<Operand>>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Operand {
    Dot,
    Field(Vec<String>),
    Variable(String, Vec<String>),
    Constant(Value),
    Function(String),
    /// `(…).A.B`
    Nested(Box<Pipe>, Vec<String>),
}

/// What ended a list of nodes.
enum End {
    Input,
    Closed,
    /// `else`, or `else if` with its condition.
    Else(Vec<Token>),
}

pub(super) fn parse(pieces: Vec<Piece>) -> Result<Vec<Node>, TemplateError> {
    let mut pieces = pieces.into_iter();
    match list(&mut pieces)? {
        (nodes, End::Input) => Ok(nodes),
        (_, End::Closed) => Err(unexpected("end", " without if, range or with")),
        (_, End::Else(_)) => Err(unexpected("else", " without if, range or with")),
    }
}

type Pieces = std::vec::IntoIter<Piece>;

fn list(pieces: &mut Pieces) -> Result<(Vec<Node>, End), TemplateError> {
    let mut nodes = Vec::new();
    while let Some(piece) = pieces.next() {
        let tokens = match piece {
            Piece::Literal(text) => {
                nodes.push(Node::Literal(text));
                continue;
            }
            Piece::Action(tokens) => tokens,
        };
        let keyword = match tokens.first() {
            Some(Token::Word(word)) => word.as_str(),
            _ => "",
        };
        match keyword {
            "end" => return Ok((nodes, End::Closed)),
            "else" => return Ok((nodes, End::Else(tokens[1..].to_vec()))),
            "if" => nodes.push(if_node(&tokens[1..], pieces)?),
            "with" => {
                let pipe = pipe(&tokens[1..])?;
                let (then, otherwise) = branches(pieces)?;
                nodes.push(Node::With { pipe, then, otherwise });
            }
            "range" => nodes.push(range_node(&tokens[1..], pieces)?),
            _ => nodes.push(action(&tokens)?),
        }
    }
    Ok((nodes, End::Input))
}

fn action(tokens: &[Token]) -> Result<Node, TemplateError> {
    match tokens {
        [Token::Variable(name, path), Token::Assign, rest @ ..] if path.is_empty() => {
            Ok(Node::Set { name: name.clone(), pipe: pipe(rest)? })
        }
        _ => Ok(Node::Print(pipe(tokens)?)),
    }
}

fn if_node(condition: &[Token], pieces: &mut Pieces) -> Result<Node, TemplateError> {
    let pipe = pipe(condition)?;
    let (then, end) = list(pieces)?;
    let otherwise = match end {
        End::Input => return Err(TemplateError::NoEnd),
        End::Closed => Vec::new(),
        End::Else(words) => match words.as_slice() {
            [] => closed(pieces)?,
            [Token::Word(word), condition @ ..] if word == "if" => {
                vec![if_node(condition, pieces)?]
            }
            _ => return Err(unexpected("else", " with a condition but no if")),
        },
    };
    Ok(Node::If { pipe, then, otherwise })
}

fn range_node(tokens: &[Token], pieces: &mut Pieces) -> Result<Node, TemplateError> {
    let (vars, rest) = match tokens {
        [Token::Variable(v, _), Token::Assign, rest @ ..] => (vec![v.clone()], rest),
        [Token::Variable(k, _), Token::Comma, Token::Variable(v, _), Token::Assign, rest @ ..] => {
            (vec![k.clone(), v.clone()], rest)
        }
        rest => (Vec::new(), rest),
    };
    let pipe = pipe(rest)?;
    let (body, otherwise) = branches(pieces)?;
    Ok(Node::Range { vars, pipe, body, otherwise })
}

/// Up to `end`, with an optional plain `else`.
fn branches(pieces: &mut Pieces) -> Result<(Vec<Node>, Vec<Node>), TemplateError> {
    let (then, end) = list(pieces)?;
    match end {
        End::Input => Err(TemplateError::NoEnd),
        End::Closed => Ok((then, Vec::new())),
        End::Else(words) if words.is_empty() => Ok((then, closed(pieces)?)),
        End::Else(_) => Err(unexpected("else", " with a condition")),
    }
}

fn closed(pieces: &mut Pieces) -> Result<Vec<Node>, TemplateError> {
    match list(pieces)? {
        (nodes, End::Closed) => Ok(nodes),
        (_, End::Input) => Err(TemplateError::NoEnd),
        (_, End::Else(_)) => Err(unexpected("else", " after else")),
    }
}

fn pipe(tokens: &[Token]) -> Result<Pipe, TemplateError> {
    let mut rest = tokens;
    let pipe = pipe_until(&mut rest)?;
    if rest.is_empty() { Ok(pipe) } else { Err(unexpected(")", "")) }
}

/// Reads up to the closing parenthesis or the end, and leaves that in `rest`.
fn pipe_until(rest: &mut &[Token]) -> Result<Pipe, TemplateError> {
    let mut commands = vec![Vec::new()];
    while let Some((token, after)) = rest.split_first() {
        if *token == Token::Close {
            break;
        }
        *rest = after;
        let operand = match token {
            Token::Pipe => {
                commands.push(Vec::new());
                continue;
            }
            Token::Open => {
                let nested = pipe_until(rest)?;
                match rest.split_first() {
                    Some((Token::Close, after)) => *rest = after,
                    _ => return Err(unexpected("(", " without )")),
                }
                let path = match rest.split_first() {
                    Some((Token::Field(path), after)) => {
                        *rest = after;
                        path.clone()
                    }
                    _ => Vec::new(),
                };
                Operand::Nested(Box::new(nested), path)
            }
            token => operand(token)?,
        };
        commands.last_mut().expect("starts with one").push(operand);
    }
    if commands.iter().any(Vec::is_empty) {
        return Err(unexpected("}}", ": missing value for command"));
    }
    Ok(Pipe { commands })
}

fn operand(token: &Token) -> Result<Operand, TemplateError> {
    Ok(match token {
        Token::Dot => Operand::Dot,
        Token::Field(path) => Operand::Field(path.clone()),
        Token::Variable(name, path) => Operand::Variable(name.clone(), path.clone()),
        Token::Text(text) => Operand::Constant(Value::from(text.as_str())),
        Token::Number(number) => Operand::Constant(Value::Number(number.clone())),
        Token::Word(word) => match word.as_str() {
            "true" => Operand::Constant(Value::Bool(true)),
            "false" => Operand::Constant(Value::Bool(false)),
            "nil" => Operand::Constant(Value::Null),
            _ => Operand::Function(super::eval::known_function(word)?.to_owned()),
        },
        Token::Comma => return Err(unexpected(",", "")),
        Token::Assign => return Err(unexpected(":=", "")),
        Token::Pipe | Token::Open | Token::Close => return Err(unexpected("|", "")),
    })
}

fn unexpected(token: &str, hint: &'static str) -> TemplateError {
    TemplateError::Unexpected { token: token.to_owned(), hint }
}
