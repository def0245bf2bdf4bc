//! `lab demo`: a cluster from its first manager to the death of a node, in under a minute. Each step shows the command that a user
//! would type and what it really answered, and must behave; the lab is removed whatever happens.

use std::collections::BTreeSet;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use clap::Args;

use super::record::Lab;
use super::up::UpArgs;
use super::{down, enter, life, up};
use crate::error::CliError;
use crate::format::print_line;

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Leave the lab up at the end
    #[arg(long)]
    keep: bool,
}

const NAME: &str = "demo";
/// A dead node's tasks must be out of every node's balancing by then (C10).
const EVICT_MAX: Duration = Duration::from_secs(5);
/// Writes must go on by then after the leader's death (C4).
const ELECT_MAX: Duration = Duration::from_secs(2);
/// Requests that show an even spread.
const MANY: usize = 24;

pub(super) fn run(args: &DemoArgs) -> Result<(), CliError> {
    let begun = Instant::now();
    let lab = up::make(&up_args())?;
    say(
        "a cluster: three managers, three agents, one outsider",
        &format!("swarmnet lab up {NAME} --managers 3 --agents 3 --ipv6"),
    );
    let result = Demo { lab: &lab, steps: 1 }.steps();
    if args.keep {
        print_line(&format!("\nthe lab is up: remove it with `swarmnet lab down {NAME}`"));
        return result.map(drop);
    }
    down::remove(&lab)?;
    let steps = result?;
    print_line(&format!(
        "\n{steps} steps behaved in {:.1} s; the lab is gone",
        begun.elapsed().as_secs_f32()
    ));
    Ok(())
}

fn up_args() -> UpArgs {
    UpArgs {
        name: swarmnet_types::Name::new(NAME).expect("a name"),
        managers: 3,
        agents: 3,
        clients: 1,
        ipv6: true,
        mtu: 1_500,
        underlay: "192.0.2.0/24".parse().expect("a network"),
        force: true,
    }
}

fn say(what: &str, command: &str) {
    print_line(&format!("\n── {what}\n$ {command}"));
}

struct Demo<'a> {
    lab: &'a Lab,
    steps: usize,
}

/// What a step must show.
fn expect(holds: bool, what: &str) -> Result<(), CliError> {
    if holds { Ok(()) } else { Err(CliError::failure(format!("the demo failed: {what}"))) }
}

impl Demo<'_> {
    /// The whole story; how many steps it had.
    fn steps(mut self) -> Result<usize, CliError> {
        self.show("who is in it", "m1", "node ls")?;
        self.show(
            "a network over all nodes, IPv4 and IPv6",
            "m1",
            "network create -d overlay --ipv6 --attachable overnet",
        )?;
        for (node, name) in [("a1", "w1"), ("a2", "w2"), ("a3", "w3")] {
            let run = format!(
                "run -d --name {name} --network overnet --service web -- swarmnet whoami --udp"
            );
            self.show("a task of the service `web`", node, &run)?;
        }
        self.show("a published port", "m1", "service publish web published=5000,target=80")?;
        self.show(
            "and the same by UDP",
            "m1",
            "service publish web published=5000,target=80,protocol=udp",
        )?;
        self.every_node_answers()?;
        self.spread()?;
        self.names()?;
        self.trace()?;
        self.host_mode()?;
        self.leader_dies()?;
        self.node_dies()?;
        self.trace_breaks()?;
        self.managers_stop()?;
        Ok(self.steps)
    }

    /// Runs `swarmnet WORDS` on a node; must succeed.
    fn show(&mut self, what: &str, node: &str, words: &str) -> Result<String, CliError> {
        say(what, &format!("swarmnet lab exec {NAME}/{node} -- swarmnet {words}"));
        let out = self.swarmnet(node, words)?;
        let text = text(&out);
        print_line(text.trim_end());
        self.steps += 1;
        expect(out.status.success(), what)?;
        Ok(text)
    }

    fn swarmnet(&self, node: &str, words: &str) -> Result<Output, CliError> {
        let mut command = enter::swarmnet(self.lab, node)?;
        command.args(words.split(' ')).stdin(Stdio::null()).output().map_err(CliError::failure)
    }

    /// The outsider asks a node; the answer.
    fn ask(&self, from: &str, target: &str, udp: bool) -> Result<Option<String>, CliError> {
        let udp = if udp { " --udp" } else { "" };
        let out = self.swarmnet(from, &format!("whoami{udp} --ask {target}"))?;
        Ok(out.status.success().then(|| text(&out)))
    }

    fn every_node_answers(&mut self) -> Result<(), CliError> {
        say(
            "every node answers the outsider, who is seen with its own address",
            &format!("swarmnet lab exec {NAME}/c1 -- curl http://<node>:5000/"),
        );
        let client = self.lab.node("c1")?.node.clone();
        for node in self.lab.nodes.iter().filter(|n| n.node.kind.has_daemon()) {
            for (ip, own) in node.node.ips().zip(client.ips()) {
                let target = std::net::SocketAddr::new(ip, 5000).to_string();
                for udp in [false, true] {
                    let answer = self.ask("c1", &target, udp)?.unwrap_or_default();
                    let seen = answer.to_lowercase();
                    let peer = if own.is_ipv6() { format!("[{own}]:") } else { format!("{own}:") };
                    let kind = if udp { "udp" } else { "tcp" };
                    let task = field(&answer, "sandbox");
                    print_line(&format!(
                        "{:<4} {kind} {target:<32} task {task:<4} sees {}",
                        node.node.name,
                        field(&answer, "peer"),
                    ));
                    expect(seen.contains(&peer), &format!("{target} ({kind}) shows the client"))?;
                }
            }
        }
        self.steps += 1;
        Ok(())
    }

    /// Tasks that answer on one node, over many requests.
    fn tasks_seen(&self, target: &str, count: usize) -> Result<BTreeSet<String>, CliError> {
        let mut tasks = BTreeSet::new();
        for _ in 0..count {
            tasks.extend(self.ask("c1", target, false)?.map(|answer| field(&answer, "sandbox")));
        }
        Ok(tasks)
    }

    fn spread(&mut self) -> Result<(), CliError> {
        say("over all tasks", &format!("{MANY} requests to m1 (192.0.2.11)"));
        let tasks = self.tasks_seen("192.0.2.11:5000", MANY)?;
        print_line(&format!(
            "answered by {}",
            tasks.iter().cloned().collect::<Vec<_>>().join(", ")
        ));
        self.steps += 1;
        expect(tasks.len() == 3, "all three tasks answer")
    }

    fn names(&mut self) -> Result<(), CliError> {
        let found = self.show(
            "names, asked from a sandbox on a manager",
            "m2",
            "run --network overnet -- getent ahosts tasks.web",
        )?;
        let addrs: BTreeSet<_> = found.lines().filter_map(|l| l.split(' ').next()).collect();
        expect(addrs.len() == 6, "three tasks have an address of each family")?;
        let task = self.show(
            "the service by its name: one virtual address, balanced in the caller's sandbox",
            "m2",
            "run --network overnet -- swarmnet whoami --ask web:80",
        )?;
        expect(task.contains("Peer: "), "the service answers by name")
    }

    fn trace(&mut self) -> Result<(), CliError> {
        self.show(
            "a client on a manager",
            "m2",
            "run -d --name box --network overnet -- swarmnet whoami",
        )?;
        let way = self.show(
            "the way of its packets, looked at in the kernel hop by hop, with one probe",
            "m2",
            "trace box web:80",
        )?;
        expect(way.contains("taken by"), "the task that took the probe is named")
    }

    fn host_mode(&mut self) -> Result<(), CliError> {
        self.show(
            "host mode: only nodes with a task answer",
            "m1",
            "service publish web published=5001,target=80,mode=host",
        )?;
        let with = self.ask("c1", "192.0.2.51:5001", false)?;
        let without = self.ask("c1", "192.0.2.11:5001", false)?;
        print_line(&format!(
            "a1 (a task): {}   m1 (none): {}",
            if with.is_some() { "answers" } else { "silent" },
            if without.is_some() { "answers" } else { "refuses" },
        ));
        expect(with.is_some() && without.is_none(), "host mode answers where a task is")
    }

    fn leader_dies(&mut self) -> Result<(), CliError> {
        say("the leader is killed", &format!("swarmnet lab kill {NAME}/m1"));
        life::kill(&format!("{NAME}/m1"))?;
        let begun = Instant::now();
        self.show("writes go on", "m2", "service publish web published=5002,target=80 -d")?;
        let took = begun.elapsed();
        print_line(&format!("after {:.2} s", took.as_secs_f32()));
        expect(took < ELECT_MAX, "writes go on within two seconds")
    }

    fn node_dies(&mut self) -> Result<(), CliError> {
        say("a node dies with all that runs on it", &format!("swarmnet lab crash {NAME}/a2"));
        life::crash(&format!("{NAME}/a2"))?;
        let begun = Instant::now();
        let (mut lost, mut asked) = (0, 0);
        // Until none of the entry nodes has chosen the dead task for a while.
        let mut quiet = 0;
        while quiet < MANY {
            asked += 1;
            let target = ["192.0.2.51:5000", "192.0.2.53:5000", "192.0.2.12:5000"][asked % 3];
            if self.ask("c1", target, false)?.is_some() {
                quiet += 1;
            } else {
                lost += 1;
                quiet = 0;
            }
            expect(begun.elapsed() < EVICT_MAX * 4, "the dead task leaves balancing")?;
        }
        let tasks = self.tasks_seen("192.0.2.53:5000", MANY)?;
        print_line(&format!(
            "{lost} of {asked} requests were lost before its task left balancing; now {} answer",
            tasks.iter().cloned().collect::<Vec<_>>().join(", ")
        ));
        self.steps += 1;
        expect(!tasks.contains("w2"), "nothing is sent to the dead node")
    }

    fn trace_breaks(&mut self) -> Result<(), CliError> {
        let words = "trace box w2:80";
        say(
            "where the way to the dead task breaks",
            &format!("swarmnet lab exec {NAME}/m2 -- swarmnet {words}"),
        );
        let begun = Instant::now();
        // The verdict of this node may be a moment later than that of those who were asked.
        let (told, out) = loop {
            let out = self.swarmnet("m2", words)?;
            let told = text(&out).contains("its node a2 is dead");
            if told || begun.elapsed() > EVICT_MAX {
                break (told, out);
            }
        };
        print_line(text(&out).trim_end());
        self.steps += 1;
        expect(told && out.status.code() == Some(1), "the dead node is named")
    }

    fn managers_stop(&mut self) -> Result<(), CliError> {
        say(
            "every manager stops",
            &format!("swarmnet lab stop {NAME}/m2; swarmnet lab stop {NAME}/m3"),
        );
        life::stop(&format!("{NAME}/m2"))?;
        life::stop(&format!("{NAME}/m3"))?;
        let answer = self.ask("c1", "192.0.2.53:5000", false)?;
        print_line(answer.as_deref().unwrap_or("no answer").trim_end());
        self.steps += 1;
        expect(answer.is_some(), "the network goes on without managers")
    }
}

fn text(out: &Output) -> String {
    let both = [&out.stdout[..], &out.stderr[..]].concat();
    String::from_utf8_lossy(&both).into_owned()
}

/// A field of whoami's answer, in its text or its one-line form.
fn field(answer: &str, name: &str) -> String {
    let wanted = [format!("{name}="), format!("{}: ", capital(name))];
    let words = answer.split([' ', '\n']).map(str::to_owned);
    let lines = answer.lines().map(str::to_owned);
    words
        .chain(lines)
        .find_map(|part| {
            wanted.iter().find_map(|w| part.strip_prefix(w.as_str()).map(str::to_owned))
        })
        .unwrap_or_default()
}

fn capital(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map(|c| c.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::field;

    #[test]
    fn both_forms_of_an_answer_are_read() {
        let long = "Hostname: h\nSandbox: w1\nAddress: 10.0.0.1:80\nPeer: 192.0.2.101:5\n";
        let short = "hostname=h sandbox=w1 address=[::]:80 peer=192.0.2.101:5\n";
        for answer in [long, short] {
            assert_eq!(field(answer, "sandbox"), "w1");
            assert_eq!(field(answer, "peer"), "192.0.2.101:5");
        }
    }
}
