//! What is installed on a host: the Debian package is made from the program under test, and looked into.
#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use swarmnet_tests::{program, stderr, stdout};

const FILES: [&str; 10] = [
    "usr/bin/swarmnet",
    "etc/swarmnet/swarmnet.toml",
    "usr/lib/systemd/system/swarmnet.service",
    "usr/lib/sysusers.d/swarmnet.conf",
    "usr/share/man/man1/swarmnet.1.gz",
    "usr/share/bash-completion/completions/swarmnet",
    "usr/share/zsh/vendor-completions/_swarmnet",
    "usr/share/fish/vendor_completions.d/swarmnet.fish",
    "usr/share/doc/swarmnet/copyright",
    "usr/share/doc/swarmnet/changelog.gz",
];

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

/// Runs a program to its end; what it wrote.
fn run<S: AsRef<OsStr>>(argv: &[S]) -> String {
    let mut command = Command::new(&argv[0]);
    // A program for tests is large, and nobody keeps this package.
    command.args(&argv[1..]).env("DPKG_DEB_COMPRESSOR_TYPE", "none");
    let out = command.output().expect("the program is there");
    assert!(out.status.success(), "{}: {}", argv[0].as_ref().display(), stderr(&out));
    stdout(&out)
}

#[test]
fn the_package_has_what_a_host_needs() {
    let dir = tempfile::tempdir().expect("a folder");
    let build = deploy().join("debian/build");
    let package = run(&[build.as_os_str(), dir.path().as_os_str(), program().as_os_str()]);
    let version = run(&[program().as_os_str(), OsStr::new("--version")]);
    let field = |name: &str| run(&["dpkg-deb", "--field", package.as_str(), name]);
    assert_eq!(format!("swarmnet {}", field("Version")), version);
    assert!(field("Depends").starts_with("libc6 (>= 2."), "{}", field("Depends"));

    let root = dir.path().join("root");
    run(&[OsStr::new("dpkg-deb"), OsStr::new("--raw-extract"), package.as_ref(), root.as_os_str()]);
    for file in FILES {
        assert!(root.join(file).is_file(), "{file} is missing");
    }
    let listed = run(&["dpkg-deb", "--contents", package.as_str()]);
    assert!(listed.lines().all(|line| line.contains(" root/root ")), "{listed}");
    let read = |file: &str| fs::read_to_string(root.join(file)).expect("it is there");
    assert_eq!(read("DEBIAN/conffiles").trim(), "/etc/swarmnet/swarmnet.toml");
    for script in ["postinst", "prerm", "postrm"] {
        run(&[OsStr::new("sh"), OsStr::new("-n"), root.join("DEBIAN").join(script).as_os_str()]);
    }
    let unit = read("usr/lib/systemd/system/swarmnet.service");
    let started = unit.lines().filter_map(|line| line.split_once("=/")).map(|(_, words)| words);
    let programs: Vec<_> = started.filter_map(|words| words.split(' ').next()).collect();
    assert_eq!(programs, ["usr/bin/swarmnet"; 2], "they are in the package");
    let config = root.join("etc/swarmnet/swarmnet.toml");
    let argv = ["daemon", "--check", "--config"].map(OsStr::new);
    let checked = run(&[&[program().as_os_str()], &argv[..], &[config.as_os_str()]].concat());
    assert_eq!(checked, "The configuration is right.");
}

#[test]
fn the_unit_is_one_that_systemd_understands() {
    let unit = deploy().join("swarmnet.service");
    let out = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .arg(unit)
        .output()
        .expect("systemd-analyze is there");
    // Here nothing is installed.
    let complaints: Vec<_> = stderr(&out)
        .lines()
        .filter(|line| !line.contains("/usr/local/bin/swarmnet is not executable"))
        .map(str::to_owned)
        .collect();
    assert_eq!(complaints, Vec::<String>::new());
}
