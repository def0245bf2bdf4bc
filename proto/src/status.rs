//! How a user's error travels: one sentence in the message of a [`tonic::Status`], and nothing else to read.

use tonic::{Code, Status};

/// A refusal with its final sentence.
pub fn rejected(code: Code, sentence: impl std::fmt::Display) -> Status {
    Status::new(code, sentence.to_string())
}

/// The one line to print for a failed call: the peer's own sentence, or what the transport says when there was no peer.
pub fn sentence(status: &Status) -> String {
    let message = status.message();
    if message.is_empty() { status.code().description().to_owned() } else { message.to_owned() }
}
