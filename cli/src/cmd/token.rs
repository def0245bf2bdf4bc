//! `swarmnet manager token`: the standing join tokens of the two roles, and further ones with an end.

use std::path::Path;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use swarmnet_proto::v1;
use swarmnet_types::Role;

use super::hex;
use super::manager::join_hint;
use super::refs::each_reference;
use crate::client::{Daemon, request_id};
use crate::error::CliError;
use crate::format::{Columns, ListFormat, print_line, print_list};
use crate::shape::duration;
use crate::shape::stamp::rfc3339;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct TokenArgs {
    /// worker or manager
    #[arg(required = true)]
    role: Option<Role>,
    /// Make a new one; earlier ones of this role are void
    #[arg(long)]
    rotate: bool,
    /// Print the token alone
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    further: FurtherArgs,
    #[command(subcommand)]
    command: Option<TokenCommand>,
}

/// A token beside the standing one.
#[derive(Debug, Args)]
struct FurtherArgs {
    /// Make a further token that is void after this time, such as 24h
    #[arg(long, value_name = "DURATION", conflicts_with = "rotate")]
    ttl: Option<String>,
    /// Make a further token by which so many nodes may join
    #[arg(long, value_name = "N", conflicts_with = "rotate")]
    uses: Option<u32>,
    /// Make a further token whose nodes are removed when they have been gone for this time
    #[arg(
        long,
        value_name = "DURATION",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "10m",
        conflicts_with = "rotate"
    )]
    ephemeral: Option<String>,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// List further tokens; those that are void are shown for a week
    #[command(visible_alias = "list")]
    Ls(ListFormat),
    /// Make further tokens void; those that are void already are forgotten
    #[command(visible_alias = "remove")]
    Rm {
        #[arg(required = true, value_name = "TOKEN-ID")]
        references: Vec<String>,
    },
}

const COLUMNS: Columns = Columns(&[
    ("ID", "{{truncate .ID 12}}"),
    ("ROLE", "{{.Role}}"),
    ("STATUS", "{{.Status}}"),
    ("USES", "{{.Uses}}{{if .UsesMax}}/{{.UsesMax}}{{end}}"),
    ("EXPIRES", "{{if .ExpiresAt}}{{.ExpiresAt}}{{else}}never{{end}}"),
    ("EPHEMERAL", "{{.Ephemeral}}"),
]);

pub(super) async fn run(args: TokenArgs, socket: Option<&Path>) -> Result<(), CliError> {
    match (args.command, args.role) {
        (Some(TokenCommand::Ls(format)), _) => ls(&format, Daemon::connect(socket).await?).await,
        (Some(TokenCommand::Rm { references }), _) => {
            rm(&references, &Daemon::connect(socket).await?).await
        }
        (None, None) => Err(CliError::usage("a role is wanted: worker or manager")),
        (None, Some(role)) => {
            let further = args.further.request(role)?;
            let mut daemon = Daemon::connect(socket).await?;
            let token = match further {
                Some(request) => daemon.admission.create_token(request).await?.into_inner().token,
                None => standing(&mut daemon, role, args.rotate).await?,
            };
            if args.quiet {
                print_line(&token);
                return Ok(());
            }
            if args.rotate {
                print_line(&format!("Successfully rotated {role} join token.\n"));
            }
            print_line(&join_hint(role, &token));
            Ok(())
        }
    }
}

/// The standing join token of a role.
async fn standing(daemon: &mut Daemon, role: Role, rotate: bool) -> Result<String, CliError> {
    let request =
        v1::GetTokenRequest { request_id: request_id(), role: v1::Role::from(role).into(), rotate };
    Ok(daemon.control.get_token(request).await?.into_inner().token)
}

impl FurtherArgs {
    /// `None`: the standing token is wanted.
    fn request(&self, role: Role) -> Result<Option<v1::CreateTokenRequest>, CliError> {
        let Self { ttl, uses, ephemeral } = self;
        if ttl.is_none() && uses.is_none() && ephemeral.is_none() {
            return Ok(None);
        }
        if *uses == Some(0) {
            return Err(CliError::usage("invalid value 0 for --uses: want at least 1"));
        }
        let seconds = |text: &Option<String>| {
            text.as_deref().map(duration::seconds).transpose().map(Option::unwrap_or_default)
        };
        Ok(Some(v1::CreateTokenRequest {
            request_id: request_id(),
            role: v1::Role::from(role).into(),
            ttl_s: seconds(ttl)?,
            uses: uses.unwrap_or_default(),
            ephemeral_s: seconds(ephemeral)?,
        }))
    }
}

fn row(token: &v1::Token) -> Value {
    let time = |ms: u64| if ms == 0 { Value::Null } else { rfc3339(ms).into() };
    let status = match token.state() {
        v1::TokenState::Valid | v1::TokenState::Unspecified => "valid",
        v1::TokenState::Revoked => "revoked",
        v1::TokenState::UsedUp => "used up",
        v1::TokenState::Expired => "expired",
    };
    let ephemeral = match token.ephemeral_ms {
        0 => String::new(),
        ms => duration::words(ms / 1_000),
    };
    json!({
        "ID": hex(&token.id),
        "Role": Option::<Role>::from(token.role()).map(|r| r.to_string()),
        "Status": status,
        "Uses": token.uses,
        "UsesMax": token.uses_max,
        "CreatedAt": time(token.created_ms),
        "ExpiresAt": time(token.expires_ms),
        "LastUsedAt": time(token.used_ms),
        "Ephemeral": ephemeral,
    })
}

async fn ls(format: &ListFormat, mut daemon: Daemon) -> Result<(), CliError> {
    let answer = daemon.admission.list_tokens(v1::ListTokensRequest {}).await?.into_inner();
    let rows: Vec<Value> = answer.tokens.iter().map(row).collect();
    print_list(&rows, COLUMNS, format)
}

async fn rm(references: &[String], daemon: &Daemon) -> Result<(), CliError> {
    each_reference(references, |reference| {
        let mut admission = daemon.admission.clone();
        async move {
            let shown = reference.clone();
            let request = v1::RemoveTokenRequest { request_id: request_id(), reference };
            admission.remove_token(request).await?;
            Ok(shown)
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Words {
        #[command(flatten)]
        args: TokenArgs,
    }

    fn parse(words: &str) -> Option<TokenArgs> {
        Words::try_parse_from(["token"].into_iter().chain(words.split(' '))).ok().map(|w| w.args)
    }

    #[test]
    fn a_word_is_a_role_or_a_command() {
        let request = |words| {
            let args = parse(words).expect("sound");
            args.further.request(args.role.expect("a role")).expect("sound")
        };
        assert_eq!(request("worker"), None);
        assert_eq!(request("worker --ttl 1h").map(|r| r.ttl_s), Some(3_600));
        let both = request("worker --ephemeral --uses 3").expect("a further one");
        assert_eq!((both.ephemeral_s, both.uses), (600, 3));
        assert_eq!(request("--ephemeral=1h worker").map(|r| r.ephemeral_s), Some(3_600));
        assert!(parse("ls").is_some_and(|a| a.command.is_some()));
        for bad in ["", "nobody", "worker --rotate --uses 1", "rm", "worker --uses x"] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }
}
