//! Refusals that fit into a header.
//!
//! A sentence may quote what a caller sent, and travels in one header of HTTP/2. Callers take headers of 16 KiB in all: above that the
//! call fails without its sentence, and far above it the whole connection is closed, with everybody else's calls on it. So what is
//! longer than any sentence of ours is cut off, for all services of a server at once.

use std::task::{Context, Poll};

use futures_util::TryFutureExt as _;
use futures_util::future::MapOk;
use http::{HeaderMap, HeaderValue, Response};
use http_body_util::BodyExt as _;
use tonic::body::Body;
use tower::{Layer, Service};

/// Where gRPC has the sentence, percent-encoded.
const MESSAGE: &str = "grpc-message";
/// A quarter of what callers take, other headers included.
const BYTES_MAX: usize = 4 << 10;
/// An ellipsis, encoded.
const REST: &[u8] = b"%E2%80%A6";

/// Around all services of a server, the first of its layers: `Server::builder().layer(TerseLayer)`.
#[derive(Debug, Clone, Copy)]
pub struct TerseLayer;

/// A service behind the layer.
#[derive(Debug, Clone)]
pub struct Terse<S>(S);

impl<S> Layer<S> for TerseLayer {
    type Service = Terse<S>;

    fn layer(&self, inner: S) -> Terse<S> {
        Terse(inner)
    }
}

impl<S, Q> Service<http::Request<Q>> for Terse<S>
where
    S: Service<http::Request<Q>, Response = Response<Body>>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = MapOk<S::Future, fn(Response<Body>) -> Response<Body>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Q>) -> Self::Future {
        self.0.call(request).map_ok(shortened)
    }
}

/// A refusal stands in the head, or behind the answers that came before it.
fn shortened(mut response: Response<Body>) -> Response<Body> {
    shorten(response.headers_mut());
    response.map(|body| {
        Body::new(body.map_frame(|mut frame| {
            if let Some(trailers) = frame.trailers_mut() {
                shorten(trailers);
            }
            frame
        }))
    })
}

fn shorten(headers: &mut HeaderMap) {
    if let Some(message) = headers.get(MESSAGE).filter(|message| message.len() > BYTES_MAX) {
        let short = cut(message.as_bytes());
        headers.insert(MESSAGE, short);
    }
}

fn cut(encoded: &[u8]) -> HeaderValue {
    let end = (0..BYTES_MAX).rev().find(|at| begins(encoded, *at)).unwrap_or(0);
    let short = [&encoded[..end], REST].concat();
    HeaderValue::from_bytes(&short).expect("a part of a value, and what is encoded")
}

/// Whether a character begins here: not within `%XX`, nor at a byte that continues one in UTF-8.
fn begins(encoded: &[u8], at: usize) -> bool {
    let is_escape = |at: usize| encoded.get(at) == Some(&b'%');
    let is_within = (1..=2).any(|back| at >= back && is_escape(at - back));
    let continues = is_escape(at)
        && matches!(encoded.get(at + 1), Some(b'8' | b'9' | b'a' | b'b' | b'A' | b'B'));
    !is_within && !continues
}

#[cfg(test)]
mod tests {
    use tonic::{Code, Status};

    use super::*;

    /// What a caller reads of a status with this sentence.
    fn read(sentence: &str) -> String {
        let response: Response<Body> = Status::new(Code::InvalidArgument, sentence).into_http();
        let response = shortened(response);
        let bytes: usize = response.headers().values().map(HeaderValue::len).sum();
        assert!(bytes < 2 * BYTES_MAX, "{bytes}");
        let status = Status::from_header_map(response.headers()).expect("a refusal");
        assert_eq!(status.code(), Code::InvalidArgument);
        status.message().to_owned()
    }

    #[test]
    fn a_sentence_stays_as_it_is() {
        for sentence in ["", "network blue not found", "schön: 100 % \n", &"x".repeat(BYTES_MAX)] {
            assert_eq!(read(sentence), sentence);
        }
    }

    #[test]
    fn what_is_longer_is_cut_between_characters() {
        for (character, len) in [("x", 1), ("%", 3), ("\n", 3), ("ü", 6), ("…", 9), ("🦀", 12)]
        {
            for before in 0..12 {
                let text = "a".repeat(before) + &character.repeat(70_000);
                let short = read(&text);
                let kept = short.strip_suffix('…').expect("the end is marked");
                assert!(text.starts_with(kept), "{character} after {before}");
                assert!(kept.chars().count() + 2 > (BYTES_MAX - before) / len, "{}", kept.len());
            }
        }
    }
}
