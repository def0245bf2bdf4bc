//! `resolv.conf`: reading the host's, writing a sandbox's as Docker does.
//!
//! Pure: text in, text out. Unlike Docker's resolver for its default bridge, ours keeps the host's loopback servers: they
//! are asked from the node, where they answer.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};

/// Where a sandbox's resolver answers; Docker's address.
pub const SANDBOX_NAMESERVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// What a `resolv.conf` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResolvConf {
    pub servers: Vec<IpAddr>,
    pub search: Vec<String>,
    pub options: Vec<String>,
    /// `nameserver` words that are no plain address, such as link-local ones with an interface. Worth a warning.
    pub ignored_servers: Vec<String>,
}

impl ResolvConf {
    /// Reads as the C library does (`resolv.conf(5)`): unknown lines are skipped, of several `search` or `domain` lines the
    /// last counts, options add up.
    pub fn parse(text: &str) -> Self {
        let mut conf = Self::default();
        for line in text.lines().map(str::trim_start) {
            if line.starts_with(['#', ';']) {
                continue;
            }
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => conf.add_server(words.next()),
                Some("search") => conf.search = words.map(str::to_owned).collect(),
                Some("domain") => conf.search = words.take(1).map(str::to_owned).collect(),
                Some("options") => conf.options.extend(words.map(str::to_owned)),
                _ => {}
            }
        }
        conf
    }

    fn add_server(&mut self, word: Option<&str>) {
        match word.map(|word| (word, word.parse())) {
            Some((_, Ok(addr))) => self.servers.push(addr),
            Some((word, Err(_))) => self.ignored_servers.push(word.to_owned()),
            None => {}
        }
    }

    /// The file of a sandbox whose names we serve. `search` and `options` replace the host's when the user gave any; a
    /// search list of `.` alone means none (`sw:R6`). `ndots:0` is added unless the options set it: local names have no dot,
    /// and no search suffix may be tried before them.
    pub fn for_sandbox(&self, search: Option<&[String]>, options: Option<&[String]>) -> String {
        let search = search.unwrap_or(&self.search);
        let options = options.unwrap_or(&self.options);
        let mut text = format!("nameserver {SANDBOX_NAMESERVER}\n");
        if !search.is_empty() && search != ["."] {
            push_line(&mut text, "search", search);
        }
        let ndots = options.iter().any(|option| option.starts_with("ndots:"));
        let mut options = options.to_vec();
        if !ndots {
            options.push("ndots:0".to_owned());
        }
        push_line(&mut text, "options", &options);
        text
    }
}

fn push_line(text: &mut String, word: &str, values: &[String]) {
    writeln!(text, "{word} {}", values.join(" ")).expect("writing to a String does not fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_keeps_loopback_servers_and_the_last_search() {
        let conf = ResolvConf::parse(
            "# made by hand\nnameserver 127.0.0.53\n nameserver fe80::1%eth0\nnameserver ::1 # local\nnameserver\n\
             domain old.example\nsearch a.example b.example\noptions edns0 trust-ad\noptions timeout:1\nsortlist 10.0.0.0\n",
        );
        assert_eq!(conf.servers, ["127.0.0.53", "::1"].map(|a| a.parse::<IpAddr>().unwrap()));
        assert_eq!(conf.ignored_servers, ["fe80::1%eth0"]);
        assert_eq!(conf.search, ["a.example", "b.example"]);
        assert_eq!(conf.options, ["edns0", "trust-ad", "timeout:1"]);
        assert_eq!(ResolvConf::parse(""), ResolvConf::default());
    }

    #[test]
    fn sandbox_file_is_as_dockers() {
        let host = ResolvConf::parse("nameserver 9.9.9.9\nsearch corp.example\noptions edns0\n");
        assert_eq!(
            host.for_sandbox(None, None),
            "nameserver 127.0.0.11\nsearch corp.example\noptions edns0 ndots:0\n"
        );
        let dot = [".".to_owned()];
        let options = ["ndots:2".to_owned()];
        assert_eq!(
            host.for_sandbox(Some(&dot), Some(&options)),
            "nameserver 127.0.0.11\noptions ndots:2\n"
        );
        assert_eq!(
            ResolvConf::default().for_sandbox(None, None),
            "nameserver 127.0.0.11\noptions ndots:0\n"
        );
    }
}
