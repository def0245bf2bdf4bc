//! How a command fails: one line, and an exit status.

use crate::format::Template;

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The words of the command itself are wrong. Exit status 2.
    #[error("{0}")]
    Usage(String),
    /// It was understood and could not be done. Exit status 1.
    #[error("{0}")]
    Failure(String),
    /// It was done in part; each failure was printed already. Exit status 1.
    #[error("")]
    Reported,
    /// A program that ran in a sandbox or a lab node ended with this status, which becomes ours.
    #[error("")]
    Status(u8),
}

impl CliError {
    pub(crate) fn usage(problem: impl std::fmt::Display) -> Self {
        Self::Usage(problem.to_string())
    }

    pub(crate) fn failure(problem: impl std::fmt::Display) -> Self {
        Self::Failure(problem.to_string())
    }

    pub(crate) fn exit_status(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Failure(_) | Self::Reported => 1,
            Self::Status(status) => *status,
        }
    }
}

impl From<tonic::Status> for CliError {
    fn from(status: tonic::Status) -> Self {
        let said = swarmnet_proto::sentence(&status);
        // What a daemon answers has no cause on this side of the socket.
        if std::error::Error::source(&status).is_none() {
            return Self::Failure(said);
        }
        Self::Failure(format!(
            "the daemon went away before it answered ({said}): what was asked may be done or not; look before you ask again"
        ))
    }
}

impl From<swarmnet_proto::Malformed> for CliError {
    fn from(err: swarmnet_proto::Malformed) -> Self {
        Self::failure(err)
    }
}

impl From<crate::format::TemplateError> for CliError {
    fn from(err: crate::format::TemplateError) -> Self {
        Self::usage(err)
    }
}

/// What clap says of wrong words, in one line: the error, what was probably meant, the usage.
pub(crate) fn words(err: &clap::Error) -> String {
    let text = err.render().to_string();
    let paragraphs: Vec<String> = text
        .split("\n\n")
        .map(|p| p.split_whitespace().collect::<Vec<_>>().join(" "))
        .filter(|p| !p.is_empty() && !p.starts_with("For more information"))
        .collect();
    let line = paragraphs.join("; ").replacen("error: ", "", 1);
    line.replace("; Usage: ", "; usage: ").replace("; tip: ", "; ")
}

/// Prints the one line of a failed command.
pub(crate) fn report(err: &CliError) {
    let line = err.to_string();
    if !line.is_empty() {
        eprintln!("swarmnet: {}", printable(&line));
    }
}

/// One line, and nothing that a terminal obeys, whatever a name or a peer has put into it.
pub(crate) fn printable(text: &str) -> String {
    text.chars().fold(String::new(), |mut out, c| {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
        out
    })
}

/// A template is checked before anything is done; `json` is none.
pub(crate) fn check_template(format: Option<&str>) -> Result<(), CliError> {
    match format {
        None | Some("json") => Ok(()),
        Some(text) => Template::parse(text).map(drop).map_err(Into::into),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::words;
    use crate::cmd::Cli;

    #[test]
    fn wrong_words_are_one_line_with_what_was_meant() {
        for (typed, said) in [
            (
                "netwrok ls",
                "unrecognized subcommand 'netwrok'; a similar subcommand exists: 'network'; usage: swarmnet",
            ),
            (
                "network rm",
                "the following required arguments were not provided: <NETWORK>...; usage: swarmnet network rm",
            ),
            (
                "service ls --quite",
                "unexpected argument '--quite' found; a similar argument exists: '--quiet'; usage: swarmnet service ls",
            ),
            ("node update n1 --role boss", "invalid value 'boss' for '--role <ROLE>'"),
        ] {
            let args = std::iter::once("swarmnet").chain(typed.split(' '));
            let err = Cli::try_parse_from(args).expect_err("wrong");
            let line = words(&err);
            assert!(line.starts_with(said), "{line}");
            assert_eq!(line.lines().count(), 1);
        }
    }

    #[test]
    fn control_characters_are_written_out() {
        assert_eq!(super::printable("a\u{1b}[31mb\nc ü"), "a\\u{1b}[31mb\\nc ü");
    }
}
