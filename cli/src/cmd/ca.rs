//! `swarmnet manager ca`

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use swarmnet_proto::v1;
use tokio::time::sleep;

use super::hex;
use crate::client::{Daemon, request_id};
use crate::error::{CliError, check_template, printable};
use crate::format::{emit, interactive, print_inspect, print_line};
use crate::shape::duration;
use crate::shape::stamp::rfc3339;

/// Between two looks at a rotation.
const LOOK_EVERY: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
pub(crate) struct CaArgs {
    /// Replace the CA; every node gets a new certificate, and earlier join tokens are void
    #[arg(long)]
    rotate: bool,
    #[command(flatten)]
    own: OwnCaArgs,
    /// Life of node certificates, such as 90d or 2160h
    #[arg(long, value_name = "DURATION")]
    cert_expiry: Option<String>,
    /// Do not wait for the end of the rotation
    #[arg(short, long)]
    detach: bool,
    /// Print certificates alone, and no progress
    #[arg(short, long)]
    quiet: bool,
    /// `json`, or a template such as '{{.Fingerprint}}'
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
}

/// An operator's own CA.
#[derive(Debug, Default, Args)]
pub(crate) struct OwnCaArgs {
    /// PEM file with the certificate of your own CA
    #[arg(long, value_name = "FILE")]
    pub(super) ca_cert: Option<PathBuf>,
    /// PEM file with its key, ECDSA P-256 in PKCS #8
    #[arg(long, value_name = "FILE")]
    pub(super) ca_key: Option<PathBuf>,
}

impl OwnCaArgs {
    /// Certificate and key; both empty when none was named (`sw:M18`).
    pub(super) fn read(&self) -> Result<(String, String), CliError> {
        let text = |path: &Path| {
            fs::read_to_string(path)
                .map_err(|err| CliError::failure(format!("cannot read {}: {err}", path.display())))
        };
        match (&self.ca_cert, &self.ca_key) {
            (None, None) => Ok(Default::default()),
            (Some(cert), Some(key)) => Ok((text(cert)?, text(key)?)),
            (Some(_), None) => Err(CliError::usage(
                "the --ca-cert flag requires that a --ca-key flag be provided as well",
            )),
            (None, Some(_)) => Err(CliError::usage(
                "the --ca-key flag requires that a --ca-cert flag be provided as well",
            )),
        }
    }
}

pub(super) async fn ca(args: CaArgs, socket: Option<&Path>) -> Result<(), CliError> {
    check_template(args.format.as_deref())?;
    let needs_rotate = [
        (args.own.ca_cert.is_some(), "ca-cert"),
        (args.own.ca_key.is_some(), "ca-key"),
        (args.cert_expiry.is_some(), "cert-expiry"),
        (args.detach, "detach"),
    ];
    if let Some((_, flag)) = needs_rotate.iter().find(|(given, _)| *given && !args.rotate) {
        // sw:M18
        return Err(CliError::usage(format!(
            "`--{flag}` flag requires the `--rotate` flag to update the CA"
        )));
    }
    let (ca_cert_pem, ca_key_pem) = args.own.read()?;
    let cert_expiry_s = args.cert_expiry.as_deref().map(duration::seconds).transpose()?;
    let mut daemon = Daemon::connect(socket).await?;
    if args.rotate {
        if let Some(cert_expiry_s) = cert_expiry_s {
            set_expiry(&mut daemon, cert_expiry_s).await?;
        }
        let request = v1::RotateCaRequest { request_id: request_id(), ca_cert_pem, ca_key_pem };
        daemon.admission.rotate_ca(request).await?;
        if args.detach {
            return Ok(());
        }
        follow(&mut daemon, args.quiet).await?;
    }
    let status = daemon.admission.get_ca(v1::GetCaRequest {}).await?.into_inner();
    show(&status, &args)
}

/// Node certificates live this long from their next renewal on.
pub(super) async fn set_expiry(daemon: &mut Daemon, cert_expiry_s: u64) -> Result<(), CliError> {
    let request = v1::UpdateClusterRequest { request_id: request_id(), cert_expiry_s };
    daemon.admission.update_cluster(request).await?;
    Ok(())
}

/// Waits for the end of the rotation, and says whom it waits for. It ends by itself: who does not wait changes nothing.
async fn follow(daemon: &mut Daemon, quiet: bool) -> Result<(), CliError> {
    let mut said = String::new();
    loop {
        let status = daemon.admission.get_ca(v1::GetCaRequest {}).await?.into_inner();
        let Some(rotation) = status.rotation else { break };
        let step = progress(&rotation);
        if !quiet && step != said {
            if interactive() {
                eprint!("\r\x1b[2K{}", printable(&step));
            } else {
                eprintln!("swarmnet: {}", printable(&step));
            }
            said = step;
        }
        sleep(LOOK_EVERY).await;
    }
    if !quiet {
        if interactive() && !said.is_empty() {
            eprint!("\r\x1b[2K");
        }
        eprintln!(
            "swarmnet: the CA was rotated; earlier join tokens are void: get new ones with `swarmnet manager token`"
        );
    }
    Ok(())
}

/// `rotated TLS certificates: 1/3 nodes, rotated CA certificates: 2/3 nodes, waiting for a1, a2`.
fn progress(rotation: &v1::CaRotation) -> String {
    let v1::CaRotation { renewed, trusting, nodes, missing, .. } = rotation;
    let counts = format!(
        "rotated TLS certificates: {renewed}/{nodes} nodes, rotated CA certificates: {trusting}/{nodes} nodes"
    );
    if missing.is_empty() {
        counts
    } else {
        format!("{counts}, waiting for {}", missing.join(", "))
    }
}

fn value(ca: &v1::Ca) -> Value {
    json!({
        "Fingerprint": hex(&ca.fingerprint),
        "NotBefore": rfc3339(ca.not_before_ms),
        "NotAfter": rfc3339(ca.not_after_ms),
        "TrustRoot": ca.cert_pem,
    })
}

fn show(status: &v1::CaStatus, args: &CaArgs) -> Result<(), CliError> {
    let present = status.present.clone().unwrap_or_default();
    let next = status.rotation.as_ref().and_then(|r| r.to.clone());
    if args.format.is_some() {
        let mut all = value(&present);
        all["NodeCertExpiry"] = duration::words(status.cert_expiry_ms / 1_000).into();
        all["RootRotationInProgress"] = status.rotation.is_some().into();
        all["Rotation"] = status.rotation.as_ref().map_or(Value::Null, |r| {
            json!({
                "To": next.as_ref().map(value),
                "StartedAt": rfc3339(r.started_ms),
                "Nodes": r.nodes,
                "Renewed": r.renewed,
                "Trusting": r.trusting,
                "Missing": r.missing,
            })
        });
        return print_inspect(&[all], args.format.as_deref());
    }
    // Text before a PEM section is passed over by whoever reads the file (RFC 7468 §5.2).
    for (word, ca) in [("CA", Some(&present)), ("Next CA", next.as_ref())] {
        let Some(ca) = ca else { continue };
        if !args.quiet {
            print_line(&format!("{word}: SHA-256 {}", hex(&ca.fingerprint)));
            let (from, to) = (rfc3339(ca.not_before_ms), rfc3339(ca.not_after_ms));
            print_line(&format!("Valid: {from} to {to}"));
        }
        emit(&ca.cert_pem);
    }
    if let Some(rotation) = status.rotation.as_ref().filter(|_| !args.quiet) {
        print_line(&format!("Rotation: {}", progress(rotation)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_hold_a_rotation_open_are_named() {
        let mut rotation =
            v1::CaRotation { nodes: 3, renewed: 1, trusting: 2, ..v1::CaRotation::default() };
        rotation.missing = vec!["a1".into(), "a2".into()];
        assert_eq!(
            progress(&rotation),
            "rotated TLS certificates: 1/3 nodes, rotated CA certificates: 2/3 nodes, waiting for a1, a2"
        );
    }

    #[test]
    fn an_own_ca_is_a_certificate_and_a_key() {
        let half = OwnCaArgs { ca_cert: Some("x".into()), ca_key: None };
        let err = half.read().expect_err("half");
        assert_eq!(err.exit_status(), 2);
        assert!(err.to_string().contains("requires that a --ca-key flag"), "{err}");
        assert_eq!(OwnCaArgs::default().read().ok(), Some(Default::default()));
    }
}
