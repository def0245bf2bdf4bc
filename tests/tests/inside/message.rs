//! Messages of any type, from its descriptor and a seed: well formed, with values that nobody means.

use std::collections::HashMap;

use bytes::Bytes;
use prost::Message as _;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value};
use swarmnet_tests::mutate;
use swarmnet_tests::rng::Rng;

/// Messages in messages; ours go four deep.
const DEPTH_MAX: u32 = 5;

/// What may stand in texts and in ids: names and ids that exist, beside [`TEXTS`].
#[derive(Debug, Default)]
pub(crate) struct Words {
    pub(crate) texts: Vec<String>,
    pub(crate) ids: Vec<Bytes>,
}

const TEXTS: [&str; 42] = [
    "",
    "a",
    "web",
    "overlay",
    "bridge",
    "macvlan",
    "ingress",
    "host",
    "none",
    "10.9.0.0/16",
    "10.9.0.0/30",
    "10.9.0.1/32",
    "0.0.0.0/0",
    "255.255.255.255/32",
    "127.0.0.0/8",
    "224.0.0.0/4",
    "::/0",
    "fd00::/8",
    "fd00:9::/127",
    "ffff::/128",
    "::ffff:10.0.0.0/104",
    "10.0.0.0/33",
    "10.9.0.7",
    "10.9.0.7:2377",
    "[fd00::1]:0",
    "1.2.3.4:99999",
    "eth0",
    "1",
    "-1",
    "18446744073709551616",
    "1e999",
    "NaN",
    "null",
    "../../../../etc/passwd",
    "/",
    "a\0b",
    "a\nb",
    "\u{202e}\u{feff}",
    "%s%n{}{0}",
    "com.docker.network.driver.mtu",
    "MTU",
    "encrypted",
];

/// The bytes of one message of this type.
pub(crate) fn any(rng: &mut Rng, of: &MessageDescriptor, words: &Words) -> Vec<u8> {
    Maker { rng, words }.message(of, 0).encode_to_vec()
}

struct Maker<'a> {
    rng: &'a mut Rng,
    words: &'a Words,
}

impl Maker<'_> {
    fn message(&mut self, of: &MessageDescriptor, depth: u32) -> DynamicMessage {
        let mut message = DynamicMessage::new(of.clone());
        for field in of.fields() {
            if depth < DEPTH_MAX && self.rng.chance(700) {
                let value = self.field(&field, depth);
                message.set_field(&field, value);
            }
        }
        message
    }

    fn field(&mut self, field: &FieldDescriptor, depth: u32) -> Value {
        // Now and then more than anybody wants; less so where each item is large.
        let many = if depth < 2 && self.rng.chance(10) { 2_000 } else { self.rng.index(4) };
        if field.is_map() {
            let entry = field.kind().as_message().expect("a map's entry").clone();
            let map: HashMap<_, _> = (0..many.min(50))
                .map(|_| {
                    let key = MapKey::String(self.text());
                    (key, self.value(&entry.map_entry_value_field().kind(), depth + 1))
                })
                .collect();
            Value::Map(map)
        } else if field.is_list() {
            Value::List((0..many).map(|_| self.value(&field.kind(), depth + 1)).collect())
        } else {
            self.value(&field.kind(), depth)
        }
    }

    fn value(&mut self, kind: &Kind, depth: u32) -> Value {
        let number = self.number();
        match kind {
            Kind::Message(of) => Value::Message(self.message(of, depth + 1)),
            Kind::Enum(of) => {
                let known = of.values().map(|v| v.number()).collect::<Vec<_>>();
                let some = *self.rng.pick(&known).expect("an enum has values");
                Value::EnumNumber(if self.rng.chance(900) { some } else { number as i32 })
            }
            Kind::Bool => Value::Bool(self.rng.chance(500)),
            Kind::String => Value::String(self.text()),
            Kind::Bytes => Value::Bytes(self.bytes()),
            Kind::Double | Kind::Float => unreachable!("no message of ours has a fraction"),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(number as i32),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(number.cast_signed()),
            Kind::Uint32 | Kind::Fixed32 => Value::U32(number as u32),
            Kind::Uint64 | Kind::Fixed64 => Value::U64(number),
        }
    }

    fn number(&mut self) -> u64 {
        let some = [0, 1, 2, 16, 24, 30, 80, 443, 4789, 5000, 65_535, 65_536, 1 << 24];
        match self.rng.below(3) {
            0 => mutate::extreme(self.rng),
            1 => *self.rng.pick(&some).expect("there are some"),
            _ => self.rng.below(70_000),
        }
    }

    fn text(&mut self) -> String {
        match self.rng.below(20) {
            0 => "x".repeat(self.rng.index(70_000)),
            1..8 if !self.words.texts.is_empty() => {
                self.rng.pick(&self.words.texts).expect("checked").clone()
            }
            _ => (*self.rng.pick(&TEXTS).expect("there are some")).to_owned(),
        }
    }

    fn bytes(&mut self) -> Bytes {
        let len = [0, 1, 4, 6, 16, 16, 16, 17, 32, 64, 100][self.rng.index(11)];
        match self.rng.below(6) {
            0 => vec![0; len].into(),
            1 => vec![0xff; len].into(),
            2 | 3 if !self.words.ids.is_empty() => {
                self.rng.pick(&self.words.ids).expect("checked").clone()
            }
            4 if self.rng.chance(100) => mutate::noise(self.rng, 70_000).into(),
            _ => mutate::noise(self.rng, len).into(),
        }
    }
}
