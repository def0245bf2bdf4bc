//! How a user's error travels: one sentence in the message of a [`tonic::Status`], and nothing else to read.

use swarmnet_types::RefusalKind;
use tonic::{Code, Status};

/// A refusal with its final sentence.
pub fn refused(kind: RefusalKind, sentence: impl std::fmt::Display) -> Status {
    let code = match kind {
        RefusalKind::NotFound => Code::NotFound,
        RefusalKind::Conflict => Code::AlreadyExists,
        RefusalKind::Invalid => Code::InvalidArgument,
        RefusalKind::Exhausted => Code::ResourceExhausted,
        RefusalKind::Forbidden => Code::PermissionDenied,
        RefusalKind::NotReady => Code::FailedPrecondition,
        RefusalKind::Internal => Code::Internal,
    };
    Status::new(code, sentence.to_string())
}

/// The one line to print for a failed call: the peer's own sentence, or what the transport says when there was no peer.
pub fn sentence(status: &Status) -> String {
    let message = status.message();
    if message.is_empty() { status.code().description().to_owned() } else { message.to_owned() }
}
