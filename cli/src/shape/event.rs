//! Events in Docker's JSON, as one line, and by filters.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use swarmnet_proto::v1;

use super::filter::Filters;
use super::stamp::rfc3339;
use crate::error::CliError;

/// Nouns that both are events' types and are named by other events' attributes.
const NOUNS: [&str; 4] = ["network", "service", "node", "endpoint"];

/// Which events are asked for.
#[derive(Debug)]
pub(crate) struct Wanted(Filters);

impl Wanted {
    /// # Errors
    /// Usage.
    pub(crate) fn parse(words: &[String]) -> Result<Self, CliError> {
        let known = ["type", "event", "label"].into_iter().chain(NOUNS);
        Filters::parse(words, &known.collect::<Vec<_>>()).map(Self)
    }

    pub(crate) fn allows(&self, event: &v1::Event) -> bool {
        let Self(filters) = self;
        let labels = event.attributes.iter().filter_map(|(key, value)| {
            Some((key.strip_prefix("label.")?.to_owned(), value.clone()))
        });
        filters.allows("type", |wanted| event.r#type == wanted)
            && filters.allows("event", |wanted| event.action == wanted)
            && NOUNS.iter().all(|noun| filters.allows(noun, |wanted| concerns(event, noun, wanted)))
            && filters.labels(&labels.collect::<BTreeMap<_, _>>())
    }
}

/// Is it about the object of that kind with this name, id or prefix of an id, or does it name it?
fn concerns(event: &v1::Event, noun: &str, wanted: &str) -> bool {
    let attribute = |key: &str| event.attributes.get(key).map(String::as_str);
    let is_of = event.r#type == noun || (noun == "node" && event.r#type == "certificate");
    if is_of {
        return attribute("name") == Some(wanted) || event.id.starts_with(wanted);
    }
    let several = attribute("networks").filter(|_| noun == "network").unwrap_or_default();
    attribute(noun) == Some(wanted) || several.split(',').any(|one| one == wanted)
}

/// One JSON object.
pub(crate) fn row(event: &v1::Event) -> Value {
    let attributes: BTreeMap<_, _> = event.attributes.iter().collect();
    json!({
        "Type": event.r#type,
        "Action": event.action,
        "Actor": {"ID": event.id, "Attributes": attributes},
        "scope": "swarm",
        "time": event.time_ms / 1_000,
        "timeNano": event.time_ms.saturating_mul(1_000_000),
        "Revision": event.revision,
    })
}

/// `2026-11-24T07:45:38.123Z network create 9f8e… (driver=overlay, name=web)`.
pub(crate) fn line(event: &v1::Event) -> String {
    let sorted: BTreeMap<_, _> = event.attributes.iter().collect();
    let attributes: Vec<_> = sorted.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let v1::Event { r#type, action, id, time_ms, .. } = event;
    format!("{} {type} {action} {id} ({})", rfc3339(*time_ms), attributes.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: &str, action: &str, attributes: &[(&str, &str)]) -> v1::Event {
        let text = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        v1::Event {
            revision: 7,
            time_ms: 1_500,
            r#type: kind.to_owned(),
            action: action.to_owned(),
            id: "abc123".to_owned(),
            attributes: attributes.iter().map(text).collect(),
        }
    }

    #[test]
    fn an_event_is_a_line_and_an_object() {
        let created = event("network", "create", &[("name", "web"), ("driver", "overlay")]);
        assert_eq!(
            line(&created),
            "1970-01-01T00:00:01.5Z network create abc123 (driver=overlay, name=web)"
        );
        let row = row(&created);
        assert_eq!(row["Actor"]["Attributes"]["name"], "web");
        assert_eq!((&row["time"], &row["timeNano"]), (&json!(1), &json!(1_500_000_000)));
    }

    #[test]
    fn filters_find_what_concerns_an_object() {
        let allows = |words: &[&str], event: &v1::Event| {
            let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
            Wanted::parse(&words).expect("right").allows(event)
        };
        let network = event("network", "create", &[("name", "a"), ("label.tier", "web")]);
        let endpoint =
            event("endpoint", "remove", &[("name", "t1"), ("network", "a"), ("node", "n")]);
        let service = event("service", "update", &[("name", "s"), ("networks", "b,a")]);
        let certificate = event("certificate", "renew", &[("name", "n")]);
        for (words, found) in [
            (&["network=a"][..], [true, true, true, false]),
            (&["network=abc", "type=network"], [true, false, false, false]),
            (&["node=n"], [false, true, false, true]),
            (&["endpoint=t1", "event=remove"], [false, true, false, false]),
            (&["type=service", "type=certificate"], [false, false, true, true]),
            (&["label=tier"], [true, false, false, false]),
            (&["label=tier=db"], [false; 4]),
            (&[], [true; 4]),
        ] {
            let all = [&network, &endpoint, &service, &certificate];
            assert_eq!(all.map(|event| allows(words, event)), found, "{words:?}");
        }
        let err = Wanted::parse(&["colour=red".to_owned()]).expect_err("unknown");
        assert!(err.to_string().contains("want one of type, event, label, network"), "{err}");
    }
}
