//! `streamctl context`: clusters by name, and which one is in use.
//!
//! Rule: no request to a cluster is made here; values are checked before they are written.

use crate::client::Controller;
use crate::context::{Chosen, Config, Context, Environment, Files, check_name, choose};
use crate::error::CliError;
use crate::output::{Output, table};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::path::PathBuf;

/// A verb of `context`.
#[derive(Debug, Subcommand)]
pub enum ContextVerb {
    /// Add or replace a context
    Add(AddArgs),
    /// Set the current context
    Use(NameArgs),
    /// List contexts
    List(ListArgs),
    /// Remove a context
    Remove(NameArgs),
    /// Show a context, or the one in effect and why
    Show(ShowArgs),
}

/// Of `context add`; its address is the global `--controller`, its files are the global ones.
#[derive(Args, Debug, Default)]
pub struct AddArgs {
    /// Context name
    pub name: String,
    /// Make it the current context, as the first one always is
    #[arg(long = "use")]
    pub in_use: bool,
}

/// Of `context list`.
#[derive(Args, Debug, Default)]
pub struct ListArgs {
    /// Print only names, one per line
    #[arg(long, conflicts_with = "output")]
    pub names: bool,
}

/// The value name of an argument that is an existing context: shells complete it.
pub const KNOWN_CONTEXT: &str = "known-context";

/// Of `context use` and `context remove`.
#[derive(Args, Debug)]
pub struct NameArgs {
    /// Context name
    #[arg(id = KNOWN_CONTEXT, value_name = "NAME")]
    pub name: String,
}

/// Of `context show`.
#[derive(Args, Debug)]
pub struct ShowArgs {
    /// Context name (default: the one in effect)
    #[arg(id = KNOWN_CONTEXT, value_name = "NAME")]
    pub name: Option<String>,
}

/// The global flags that matter here.
#[derive(Clone, Copy, Debug)]
pub struct Flags<'a> {
    /// `--controller`.
    pub controller: Option<&'a str>,
    /// `--context`.
    pub context: Option<&'a str>,
    /// `--ca` and the like.
    pub files: &'a Files,
}

/// Reads and writes the file of contexts.
pub fn run(
    verb: &ContextVerb,
    flags: Flags<'_>,
    from: &Environment,
    out: &mut Output,
) -> Result<(), CliError> {
    match verb {
        ContextVerb::Add(args) => add(args, flags, from, out),
        ContextVerb::Use(args) => {
            let (path, mut config) = read(from)?;
            config.find(&args.name)?;
            config.current = Some(args.name.clone());
            config.write(path)?;
            done(&args.name, &config, "is in use", out)
        }
        ContextVerb::List(args) => list(args, &read(from)?.1, out),
        ContextVerb::Remove(args) => {
            let (path, mut config) = read(from)?;
            config.find(&args.name)?;
            config.contexts.remove(&args.name);
            config.current = config.current.filter(|current| *current != args.name);
            config.write(path)?;
            done(&args.name, &config, "was removed", out)
        }
        ContextVerb::Show(args) => show(args, flags, from, out),
    }
}

fn read(from: &Environment) -> Result<(&std::path::Path, Config), CliError> {
    let path = from.config_file()?;
    Ok((path, Config::read(path)?))
}

fn add(
    args: &AddArgs,
    flags: Flags<'_>,
    from: &Environment,
    out: &mut Output,
) -> Result<(), CliError> {
    check_name(&args.name)?;
    let controller = flags.controller.ok_or_else(|| CliError::Usage {
        message: "a context needs an address".into(),
        hint: format!(
            "streamctl context add {} --controller https://host:7070",
            args.name
        ),
    })?;
    Controller::check(controller)?;
    let file = |path: &Option<PathBuf>| path.as_ref().map(|path| readable(path)).transpose();
    let context = Context {
        controller: controller.to_owned(),
        ca: file(&flags.files.ca)?,
        cert: file(&flags.files.cert)?,
        key: file(&flags.files.key)?,
        token_file: file(&flags.files.token_file)?,
        server_name: flags.files.server_name.clone(),
    };
    context.dialer()?;
    let (path, mut config) = read(from)?;
    config.contexts.insert(args.name.clone(), context);
    if args.in_use || config.contexts.len() == 1 {
        config.current = Some(args.name.clone());
    }
    config.write(path)?;
    let what = if config.current.as_ref() == Some(&args.name) {
        "was added and is in use"
    } else {
        "was added"
    };
    done(&args.name, &config, what, out)
}

/// The absolute path of a file: the context is used from other folders too.
fn readable(path: &std::path::Path) -> Result<PathBuf, CliError> {
    let failed = |source| CliError::File {
        path: path.display().to_string(),
        source,
    };
    std::fs::File::open(path).map_err(failed)?;
    std::path::absolute(path).map_err(failed)
}

fn done(name: &str, config: &Config, what: &str, out: &mut Output) -> Result<(), CliError> {
    let current = config.current.clone();
    out.either(
        || format!("context {name} {what}"),
        || json!({"context": name, "current": current}),
    )
}

fn list(args: &ListArgs, config: &Config, out: &mut Output) -> Result<(), CliError> {
    let all: Vec<(&String, &Context)> = config.contexts.iter().collect();
    if args.names {
        let names: Vec<_> = all.iter().map(|(name, _)| name.as_str()).collect();
        return if names.is_empty() {
            Ok(())
        } else {
            out.text(&names.join("\n"))
        };
    }
    let in_use = |name: &String| config.current.as_ref() == Some(name);
    let row = |(name, context): &(&String, &Context)| {
        let mark = if in_use(name) { "*" } else { "" };
        let [ca, cert, token] = [
            trusts(context),
            path_text(&context.cert),
            path_text(&context.token_file),
        ];
        [
            mark.to_owned(),
            (*name).clone(),
            context.controller.clone(),
            ca,
            cert,
            token,
        ]
    };
    let json = |all: &[(&String, &Context)]| {
        let all = all.iter().map(|(name, context)| {
            let mut json = document(context);
            json["context"] = name.as_str().into();
            json["in_use"] = in_use(name).into();
            json
        });
        Value::Array(all.collect())
    };
    let text = |all: &[(&String, &Context)]| {
        let rows: Vec<_> = all.iter().map(row).collect();
        table(
            ["", "CONTEXT", "CONTROLLER", "CA", "CERTIFICATE", "TOKEN"],
            &rows,
        )
    };
    out.list(
        &all,
        "no contexts yet: add one with `streamctl context add NAME --controller URL`",
        text,
        json,
    )
}

/// The location of a secret, never its content: a token stays in its file.
fn path_text(path: &Option<PathBuf>) -> String {
    path.as_ref()
        .map_or_else(|| "-".to_owned(), |path| path.display().to_string())
}

/// The certificate authorities trusted for the controllers.
fn trusts(context: &Context) -> String {
    match &context.ca {
        None if context.controller.contains("https://") => "the system's".to_owned(),
        ca => path_text(ca),
    }
}

fn document(context: &Context) -> Value {
    let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
    json!({
        "controller": context.controller, "ca": path(&context.ca), "cert": path(&context.cert),
        "key": path(&context.key), "token_file": path(&context.token_file), "server_name": context.server_name,
    })
}

fn show(
    args: &ShowArgs,
    flags: Flags<'_>,
    from: &Environment,
    out: &mut Output,
) -> Result<(), CliError> {
    let Chosen { context, name, by } = match &args.name {
        Some(_) => choose(None, args.name.as_deref(), from)?,
        None => choose(flags.controller, flags.context, from)?,
    };
    let context = if args.name.is_none() {
        context.with(flags.files)
    } else {
        context
    };
    let text = || {
        let mut lines = vec![];
        let mut line =
            |key: &str, value: String| lines.push(format!("{:<12}{value}", format!("{key}:")));
        line("controller", context.controller.clone());
        line("context", name.clone().unwrap_or_else(|| "none".into()));
        line("chosen by", by.to_owned());
        let files = [
            ("ca", &context.ca),
            ("cert", &context.cert),
            ("key", &context.key),
            ("token file", &context.token_file),
        ];
        for (key, path) in files {
            if let Some(path) = path {
                line(key, path.display().to_string());
            }
        }
        if let Some(name) = &context.server_name {
            line("server name", name.clone());
        }
        lines.join("\n")
    };
    let json = || {
        let mut json = document(&context);
        json["context"] = name.clone().into();
        json["chosen_by"] = by.into();
        json
    };
    out.either(text, json)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Format;
    use crate::output::tests::{captured, documented};

    fn run_verb(
        verb: ContextVerb,
        controller: Option<&str>,
        from: &Environment,
    ) -> Result<String, CliError> {
        run_verb_with(verb, controller, from, &Files::default())
    }

    fn run_verb_with(
        verb: ContextVerb,
        controller: Option<&str>,
        from: &Environment,
        files: &Files,
    ) -> Result<String, CliError> {
        let (mut out, data, _) = captured(Format::Table);
        run(
            &verb,
            Flags {
                controller,
                context: None,
                files,
            },
            from,
            &mut out,
        )?;
        Ok(data.text())
    }

    fn name(name: &str) -> NameArgs {
        NameArgs { name: name.into() }
    }

    #[test]
    fn contexts_are_added_used_listed_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let from = Environment {
            config: Some(folder.path().join("config.toml")),
            ..Environment::default()
        };
        let add = |name: &str, url| {
            run_verb(
                ContextVerb::Add(AddArgs {
                    name: name.into(),
                    ..Default::default()
                }),
                url,
                &from,
            )
        };
        assert_eq!(
            add("dev", Some("http://dev:1")).unwrap(),
            "context dev was added and is in use\n"
        );
        assert_eq!(
            add("prod", Some("http://prod:1")).unwrap(),
            "context prod was added\n"
        );
        assert_eq!(
            run_verb(ContextVerb::Use(name("prod")), None, &from).unwrap(),
            "context prod is in use\n"
        );
        let listed = run_verb(ContextVerb::List(ListArgs::default()), None, &from).unwrap();
        let expected = "   CONTEXT  CONTROLLER     CA  CERTIFICATE  TOKEN
   dev      http://dev:1   -   -            -
*  prod     http://prod:1  -   -            -
";
        assert_eq!(listed, expected);
        let names = run_verb(ContextVerb::List(ListArgs { names: true }), None, &from).unwrap();
        assert_eq!(names, "dev\nprod\n");
        let shown = run_verb(ContextVerb::Show(ShowArgs { name: None }), None, &from).unwrap();
        assert_eq!(
            shown,
            "controller: http://prod:1\ncontext:    prod\nchosen by:  in use\n"
        );
        run_verb(ContextVerb::Remove(name("prod")), None, &from).unwrap();
        let shown = run_verb(ContextVerb::Show(ShowArgs { name: None }), None, &from).unwrap();
        assert!(shown.contains("http://127.0.0.1:7070"), "{shown}");
        assert_eq!(
            run_verb(ContextVerb::Use(name("prod")), None, &from)
                .unwrap_err()
                .exit_code(),
            3
        );
        assert_eq!(add("x y", Some("http://a:1")).unwrap_err().exit_code(), 2);
        assert_eq!(add("ok", None).unwrap_err().exit_code(), 2);
        assert_eq!(add("ok", Some("a b")).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn answers_as_json_have_the_keys_that_are_documented() {
        let folder = tempfile::tempdir().unwrap();
        let from = Environment {
            config: Some(folder.path().join("config.toml")),
            ..Environment::default()
        };
        let json_of = |verb: ContextVerb| {
            let (mut out, data, _) = captured(Format::Json);
            run(
                &verb,
                Flags {
                    controller: Some("http://a:1"),
                    context: None,
                    files: &Files::default(),
                },
                &from,
                &mut out,
            )
            .unwrap();
            serde_json::from_str::<serde_json::Value>(&data.text()).unwrap()
        };
        let add = AddArgs {
            name: "dev".into(),
            ..Default::default()
        };
        documented("context add", &json_of(ContextVerb::Add(add)));
        documented(
            "context list",
            &json_of(ContextVerb::List(ListArgs::default()))[0],
        );
        documented(
            "context show",
            &json_of(ContextVerb::Show(ShowArgs { name: None })),
        );
        documented(
            "context use",
            &json_of(ContextVerb::Use(NameArgs { name: "dev".into() })),
        );
        documented(
            "context remove",
            &json_of(ContextVerb::Remove(NameArgs { name: "dev".into() })),
        );
    }

    #[test]
    fn a_context_names_files_that_are_there_from_the_root() {
        let folder = tempfile::tempdir().unwrap();
        let from = Environment {
            config: Some(folder.path().join("config.toml")),
            ..Environment::default()
        };
        let ca = folder.path().join("ca.pem");
        let add = || {
            let args = AddArgs {
                name: "prod".into(),
                ..Default::default()
            };
            let files = Files {
                ca: Some(ca.clone()),
                ..Files::default()
            };
            run_verb_with(ContextVerb::Add(args), Some("https://a:1"), &from, &files)
        };
        assert_eq!(add().unwrap_err().exit_code(), 2, "the file is not there");
        std::fs::write(&ca, "-").unwrap();
        let refused = add().unwrap_err();
        assert!(
            refused.to_string().contains("holds no certificate"),
            "{refused}"
        );
        let made = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
        std::fs::write(&ca, made.cert.pem()).unwrap();
        add().unwrap();
        assert_eq!(
            Config::read(&from.config.clone().unwrap())
                .unwrap()
                .contexts["prod"]
                .ca,
            Some(ca.clone())
        );
        let listed = run_verb(ContextVerb::List(ListArgs::default()), None, &from).unwrap();
        assert!(listed.contains(&ca.display().to_string()), "{listed}");
    }

    #[test]
    fn a_list_shows_whom_a_context_trusts_and_where_its_token_is_and_never_the_token() {
        let folder = tempfile::tempdir().unwrap();
        let from = Environment {
            config: Some(folder.path().join("config.toml")),
            ..Environment::default()
        };
        let none = run_verb(ContextVerb::List(ListArgs::default()), None, &from).unwrap();
        assert_eq!(none, "", "nothing is in no table");
        let token = streamctl_engine::security::Token::generate().unwrap();
        let file = folder.path().join("me.token");
        std::fs::write(&file, token.reveal()).unwrap();
        let files = Files {
            token_file: Some(file.clone()),
            ..Files::default()
        };
        let args = AddArgs {
            name: "prod".into(),
            ..Default::default()
        };
        run_verb_with(ContextVerb::Add(args), Some("https://a:1"), &from, &files).unwrap();
        let listed = run_verb(ContextVerb::List(ListArgs::default()), None, &from).unwrap();
        assert!(
            listed.contains("the system's") && listed.contains(&file.display().to_string()),
            "{listed}"
        );
        assert!(!listed.contains(token.reveal()), "{listed}");
    }
}
