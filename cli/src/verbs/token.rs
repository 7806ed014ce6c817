//! `streamctl token`: makes tokens, and the lines by which controllers know them.
//!
//! Rule: the token goes into a file that only its owner can read; the printed line grants no
//! access.

use crate::error::CliError;
use crate::output::Output;
use clap::{Args, Subcommand};
use serde_json::json;
use std::path::PathBuf;
use streamctl_engine::security::access::line_for;
use streamctl_engine::security::{Role, SecurityError, Token};

/// A verb of `token`.
#[derive(Debug, Subcommand)]
pub enum TokenVerb {
    /// Create a token and print its entry for the controllers' --access file
    New(NewArgs),
}

/// Of `token new`.
#[derive(Args, Debug)]
pub struct NewArgs {
    /// Name of the user, program or worker
    #[arg(long)]
    pub name: String,
    /// Role: view, operate, admin, or worker (joins the cluster as a worker)
    #[arg(long)]
    pub role: Role,
    /// Token file to create (default: NAME.token)
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// The permissions of a token file.
const FOR_ITS_OWNER: u32 = 0o600;

/// Makes a token.
pub fn run(verb: &TokenVerb, out: &mut Output) -> Result<(), CliError> {
    let TokenVerb::New(args) = verb;
    let token = Token::generate()?;
    let line = line_for(&args.name, args.role, token.digest())?;
    let path = args
        .out
        .clone()
        .unwrap_or_else(|| format!("{}.token", args.name).into());
    super::create(
        &path,
        &format!("{}\n", token.reveal()),
        FOR_ITS_OWNER,
        "--out",
    )?;
    let file = path.display().to_string();
    let json = || json!({"name": args.name, "role": args.role.as_str(), "sha256": token.digest().to_hex(), "file": file, "line": line});
    out.either(|| line.trim_end().to_owned(), json)?;
    out.note(&format!(
        "the token is in {file}: give it to {} (--token-file); it is not stored anywhere else",
        args.name
    ));
    // If standard output goes into a file, the user sees nothing of it.
    out.note(
        "the lines on standard output belong in the file that the controllers have as --access: \
         they read it by themselves",
    );
    Ok(())
}

impl From<SecurityError> for CliError {
    fn from(SecurityError { problem, hint }: SecurityError) -> Self {
        Self::Usage {
            message: problem,
            hint,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Format;
    use crate::output::tests::{captured, documented};
    use std::os::unix::fs::PermissionsExt;
    use streamctl_engine::security::AccessTable;

    #[test]
    fn a_new_token_is_in_its_file_alone_and_the_printed_line_knows_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ci");
        let (mut out, data, notes) = captured(Format::Table);
        let verb = TokenVerb::New(NewArgs {
            name: "ci".into(),
            role: Role::Operate,
            out: Some(path.clone()),
        });
        run(&verb, &mut out).unwrap();
        let token = Token::parse(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let caller = AccessTable::parse(&data.text())
            .unwrap()
            .by_token(&token.digest())
            .unwrap();
        assert!(caller.may(Role::Operate) && !caller.may(Role::Admin));
        assert!(!data.text().contains(token.reveal()) && !notes.text().contains(token.reveal()));
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let (mut json, reported, _) = captured(Format::Json);
        let other = NewArgs {
            name: "x".into(),
            role: Role::View,
            out: Some(folder.path().join("x")),
        };
        run(&TokenVerb::New(other), &mut json).unwrap();
        documented(
            "token new",
            &serde_json::from_str(&reported.text()).unwrap(),
        );
        let error = run(&verb, &mut out).unwrap_err();
        assert_eq!(
            (error.exit_code(), error.hint().unwrap().as_str()),
            (2, "name another file with --out")
        );
        assert_eq!(
            error.to_string(),
            format!("{} is there already: it is not overwritten", path.display())
        );
        assert!(
            notes.text().contains("standard output") && !notes.text().contains("above"),
            "{}",
            notes.text()
        );
        let bad = NewArgs {
            name: "a b".into(),
            role: Role::View,
            out: Some(path.clone()),
        };
        assert_eq!(
            run(&TokenVerb::New(bad), &mut out).unwrap_err().exit_code(),
            2
        );
        assert_eq!(
            Token::parse(&std::fs::read_to_string(&path).unwrap()).unwrap(),
            token,
            "it was not written over"
        );
    }
}
