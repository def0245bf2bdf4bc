//! Calls whose messages are bytes: what another version, or no swarmnet at all, may send.

use bytes::{Buf as _, BufMut as _, Bytes};
use http::uri::PathAndQuery;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

/// The longest answer that is taken.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Bytes as they are, both ways.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let len = from.remaining();
        Ok(Some(from.copy_to_bytes(len)))
    }
}

/// Calls the method at `path`, as `/package.Service/Method`, with these messages; its answers.
///
/// # Errors
/// The refusal of the call. What ends the answers later is in their stream.
pub(crate) async fn call(
    channel: &Channel,
    path: &str,
    messages: impl futures_util::Stream<Item = Bytes> + Send + 'static,
) -> Result<Streaming<Bytes>, Status> {
    let mut grpc =
        tonic::client::Grpc::new(channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX);
    grpc.ready().await.map_err(|err| Status::unavailable(err.to_string()))?;
    let path: PathAndQuery = path.parse().expect("a method's path");
    // One message and an end of the stream are what a unary call is, too.
    let answer = grpc.streaming(Request::new(messages), path, RawCodec).await?;
    Ok(answer.into_inner())
}
