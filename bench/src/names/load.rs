//! Queries over UDP from a few sockets of one thread: as many as are answered, or at a rate; each answer is looked at.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use swarmnet_dns::{WireName, client};

use crate::load::within;

/// Clients: each socket has a port of its own.
const SOCKETS: usize = 8;
/// Longest silence; a measurement that meets it fails.
const SILENCE_MS_MAX: u16 = 500;
/// Largest answer that is looked for.
const ANSWER_BYTES_MAX: usize = 1_232;
const HEADER_BYTES: usize = 12;
/// The header, the longest name there is, type and class.
const QUESTION_BYTES_MAX: usize = HEADER_BYTES + 255 + 4;

/// How queries follow each other.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pace {
    /// So many under way; an answer brings the next.
    Window(u32),
    PerSecond(f64),
}

/// One socket and when each of its queries was sent, by id.
struct Client {
    socket: UdpSocket,
    sent: Vec<Option<Instant>>,
    next: u16,
}

/// Microseconds of each answer. An answer that is an error or holds nothing is an error of the measurement, and so is one that
/// does not come.
pub(super) fn ask(
    netns: &Path,
    to: SocketAddr,
    names: &[String],
    (pace, time): (Pace, Duration),
) -> Result<Vec<f64>> {
    let questions = names
        .iter()
        .map(|name| Ok(client::query(0, &WireName::from_text(name)?, false)))
        .collect::<Result<Vec<_>>>()?;
    within(netns, || {
        let clients = (0..SOCKETS).map(|_| Client::new(to)).collect::<Result<Vec<_>>>()?;
        let mut asking = Asking { clients, questions: questions.iter().cycle(), times: Vec::new() };
        match pace {
            Pace::Window(under_way) => asking.window(under_way, time)?,
            Pace::PerSecond(rate) => asking.paced(rate, time)?,
        }
        Ok(asking.times)
    })
}

struct Asking<'a, I: Iterator<Item = &'a Vec<u8>>> {
    clients: Vec<Client>,
    questions: I,
    times: Vec<f64>,
}

impl<'a, I: Iterator<Item = &'a Vec<u8>>> Asking<'a, I> {
    fn send(&mut self, client: usize) -> Result<()> {
        let question = self.questions.next().expect("they go round");
        self.clients[client].send(question)
    }

    fn window(&mut self, under_way: u32, time: Duration) -> Result<()> {
        let begun = Instant::now();
        for at in 0..under_way as usize {
            self.send(at % SOCKETS)?;
        }
        while begun.elapsed() < time {
            self.wait(SILENCE_MS_MAX)?;
            for at in 0..SOCKETS {
                while let Some(us) = self.clients[at].receive()? {
                    self.times.push(us);
                    self.send(at)?;
                }
            }
        }
        Ok(())
    }

    /// Without sleeping: a timer would be later than an answer.
    fn paced(&mut self, rate: f64, time: Duration) -> Result<()> {
        let (begun, mut sent) = (Instant::now(), 0_u32);
        while begun.elapsed() < time {
            while f64::from(sent) < begun.elapsed().as_secs_f64() * rate {
                self.send(sent as usize % SOCKETS)?;
                sent += 1;
            }
            self.take()?;
        }
        while self.times.len() < sent as usize {
            self.wait(SILENCE_MS_MAX)?;
            self.take()?;
        }
        Ok(())
    }

    fn take(&mut self) -> Result<()> {
        for client in &mut self.clients {
            while let Some(us) = client.receive()? {
                self.times.push(us);
            }
        }
        Ok(())
    }

    /// Waits for an answer to any.
    fn wait(&self, ms: u16) -> Result<()> {
        let mut sockets: Vec<_> = self
            .clients
            .iter()
            .map(|client| PollFd::new(client.socket.as_fd(), PollFlags::POLLIN))
            .collect();
        if poll(&mut sockets, PollTimeout::from(ms))? == 0 {
            bail!("a query is not answered within {ms} ms");
        }
        Ok(())
    }
}

impl Client {
    fn new(to: SocketAddr) -> Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect(to)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, sent: vec![None; usize::from(u16::MAX) + 1], next: 0 })
    }

    /// The question with the next id.
    fn send(&mut self, question: &[u8]) -> Result<()> {
        let mut packet = [0; QUESTION_BYTES_MAX];
        let packet = &mut packet[..question.len()];
        packet.copy_from_slice(question);
        packet[..2].copy_from_slice(&self.next.to_be_bytes());
        self.sent[usize::from(self.next)] = Some(Instant::now());
        self.next = self.next.wrapping_add(1);
        self.socket.send(packet)?;
        Ok(())
    }

    /// Microseconds since the query whose answer is there.
    fn receive(&mut self) -> Result<Option<f64>> {
        let mut answer = [0; ANSWER_BYTES_MAX];
        let bytes = match self.socket.recv(&mut answer) {
            Ok(bytes) => bytes,
            Err(err) if err.kind() == std::io::ErrorKind::WouldBlock => return Ok(None),
            Err(err) => return Err(err.into()),
        };
        if bytes < HEADER_BYTES {
            bail!("an answer of {bytes} bytes");
        }
        let id = u16::from_be_bytes([answer[0], answer[1]]);
        let Some(sent) = self.sent[usize::from(id)].take() else { bail!("an answer to nothing") };
        // RFC 1035 §4.1.1: an answer, without error, with a record.
        let (is_answer, code) = (answer[2] & 0x80 != 0, answer[3] & 0x0f);
        if !is_answer || code != 0 || answer[6..8] == [0, 0] {
            bail!("a query is not answered but refused with code {code}");
        }
        Ok(Some(sent.elapsed().as_secs_f64() * 1e6))
    }
}
