//! `streamctl completions` and `streamctl man`: files for shells and `man`.
//!
//! Owns: names of jobs and contexts as completions, which no generator supports. Does not own: the
//! arguments (`args`).
//! Rule: both are generated from the command line's definition, so that no verb can be missing.

use crate::args::{Cli, CompletionsArgs, ManArgs};
use crate::error::CliError;
use crate::output::Output;
use crate::verbs::context::KNOWN_CONTEXT;
use clap::{Command, CommandFactory};
use clap_complete::Shell;
use std::path::Path;
use streamctl_proto::count;

/// Prints the completions of a shell.
pub fn run(args: &CompletionsArgs, out: &mut Output) -> Result<(), CliError> {
    out.text(&completions(args.shell))
}

/// Writes one page per verb.
pub fn man(args: &ManArgs, out: &mut Output) -> Result<(), CliError> {
    let failed = |source| CliError::File {
        path: args.out.display().to_string(),
        source,
    };
    std::fs::create_dir_all(&args.out).map_err(failed)?;
    let mut command = Cli::command();
    command.build();
    let mut names = vec![];
    pages(&command, &args.out, &mut names).map_err(failed)?;
    let folder = args.out.display().to_string();
    let text = || {
        format!(
            "{folder} has {}; read one with: man -l {folder}/streamctl.1",
            count(names.len(), "page")
        )
    };
    out.either(
        text,
        || serde_json::json!({"folder": folder, "pages": names}),
    )
}

/// The page of a command, and those of its subcommands: `streamctl-context-add.1`.
fn pages(command: &Command, folder: &Path, names: &mut Vec<String>) -> std::io::Result<()> {
    let file = format!(
        "{}.1",
        command.get_display_name().unwrap_or(command.get_name())
    );
    let mut text = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut text)?;
    std::fs::write(folder.join(&file), text)?;
    names.push(file);
    let mut children = command
        .get_subcommands()
        .filter(|child| !child.is_hide_set() && child.get_name() != "help");
    children.try_for_each(|child| pages(child, folder, names))
}

fn completions(shell: Shell) -> String {
    let mut bytes = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "streamctl", &mut bytes);
    let made = String::from_utf8_lossy(&bytes).into_owned();
    match shell {
        Shell::Bash => format!("{made}{}", bash()),
        Shell::Zsh => zsh(&made),
        Shell::Fish => format!("{made}{}", fish()),
        _ => made,
    }
}

/// The verbs whose first argument is the name of a job.
fn verbs_of_jobs() -> Vec<String> {
    let command = Cli::command();
    let takes = |verb: &&Command| verb.get_positionals().any(|word| word.get_id() == "job");
    command
        .get_subcommands()
        .filter(takes)
        .map(|verb| verb.get_name().to_owned())
        .collect()
}

/// The verbs of `context` whose first argument is the name of an existing one.
fn verbs_of_contexts() -> Vec<String> {
    let command = Cli::command();
    let context = command
        .find_subcommand("context")
        .expect("it is one of the verbs");
    let takes = |verb: &&Command| {
        verb.get_positionals()
            .any(|word| word.get_id() == KNOWN_CONTEXT)
    };
    context
        .get_subcommands()
        .filter(takes)
        .map(|verb| verb.get_name().to_owned())
        .collect()
}

/// Prints the names of jobs or contexts.
const JOBS: &str = "streamctl --quiet list --names 2>/dev/null";
const CONTEXTS: &str = "streamctl --quiet context list --names 2>/dev/null";

/// The generated function does not complete jobs and contexts: they are added to its result.
fn bash() -> String {
    format!(
        r#"
_streamctl_with_names() {{
    _streamctl "$@"
    local word="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[*]:1:COMP_CWORD-1}}"
    if [[ "${{COMP_WORDS[COMP_CWORD-1]}}" == --context ]]; then
        COMPREPLY=( $(compgen -W "$({CONTEXTS})" -- "$word") )
    elif [[ "$word" == -* ]]; then
        return
    elif [[ "$before" =~ (^| )context\ ({contexts})$ ]]; then
        COMPREPLY+=( $(compgen -W "$({CONTEXTS})" -- "$word") )
    elif [[ "$before" =~ (^| )({jobs})( |$) ]]; then
        COMPREPLY+=( $(compgen -W "$({JOBS})" -- "$word") )
    fi
}}
complete -F _streamctl_with_names -o nosort -o bashdefault -o default streamctl
"#,
        jobs = verbs_of_jobs().join("|"),
        contexts = verbs_of_contexts().join("|")
    )
}

fn zsh(made: &str) -> String {
    let of = |line: &str, id: &str| {
        [format!("':{id} -- "), format!("'::{id} -- ")]
            .iter()
            .any(|word| line.contains(word))
    };
    let named = |line: &str| {
        if of(line, "job") {
            line.replace(":_default'", ":_streamctl_jobs'")
        } else if of(line, KNOWN_CONTEXT) || line.starts_with("'--context=[") {
            line.replace(":_default'", ":_streamctl_contexts'")
        } else {
            line.to_owned()
        }
    };
    let lines: Vec<String> = made.lines().map(named).collect();
    let function =
        |name: &str, asks: &str| format!("{name}() {{\n    compadd -- ${{(f)\"$({asks})\"}}\n}}\n");
    let functions = format!(
        "{}{}",
        function("_streamctl_jobs", JOBS),
        function("_streamctl_contexts", CONTEXTS)
    );
    // The generated text ends by calling or registering the main function: ours must be defined
    // before.
    let at = lines
        .iter()
        .rposition(|line| line.starts_with("if [ \"$funcstack[1]\""));
    let (before, after) = lines.split_at(at.unwrap_or(lines.len()));
    format!("{}\n{functions}\n{}\n", before.join("\n"), after.join("\n"))
}

fn fish() -> String {
    let jobs = verbs_of_jobs().join(" ");
    let contexts = verbs_of_contexts().join(" ");
    format!(
        "complete -c streamctl -n \"__fish_seen_subcommand_from {jobs}\" -f -a \"({JOBS})\"\n\
         complete -c streamctl -n \"__fish_seen_subcommand_from context; and __fish_seen_subcommand_from {contexts}\" -f -a \
         \"({CONTEXTS})\"\n\
         complete -c streamctl -l context -x -a \"({CONTEXTS})\"\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Format;
    use crate::output::tests::captured;
    use clap::ValueEnum;

    fn verbs() -> Vec<String> {
        Cli::command()
            .get_subcommands()
            .map(|verb| verb.get_name().to_owned())
            .collect()
    }

    #[test]
    fn every_verb_is_in_the_completions_of_every_shell() {
        for shell in Shell::value_variants() {
            let text = completions(*shell);
            for verb in verbs() {
                assert!(text.contains(&verb), "{shell} does not know {verb}");
            }
        }
    }

    #[test]
    fn names_of_jobs_are_completed_where_a_job_is_wanted() {
        let verbs = verbs_of_jobs();
        for verb in ["status", "stop", "epochs", "tail", "verify", "dead-letters"] {
            assert!(
                verbs.iter().any(|known| known == verb),
                "{verb} is not in {verbs:?}"
            );
        }
        assert!(!verbs.contains(&"submit".to_owned()));
        assert!(completions(Shell::Bash).contains("complete -F _streamctl_with_names"));
        assert!(
            completions(Shell::Zsh).contains(":_streamctl_jobs'"),
            "{}",
            completions(Shell::Zsh)
        );
        assert!(completions(Shell::Fish).contains("list --names"));
    }

    #[test]
    fn names_of_contexts_are_completed_where_one_is_wanted() {
        assert_eq!(verbs_of_contexts(), ["use", "remove", "show"]);
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            assert!(
                completions(shell).contains("context list --names"),
                "{shell}"
            );
        }
        let zsh = completions(Shell::Zsh);
        let lines: Vec<_> = zsh
            .lines()
            .filter(|line| line.contains(":_streamctl_contexts'"))
            .collect();
        assert!(
            lines.iter().any(|line| line.contains("known-context")),
            "{lines:?}"
        );
        assert!(
            lines.iter().any(|line| line.starts_with("'--context=[")),
            "{lines:?}"
        );
    }

    /// A bash with the completions, and a `streamctl` that knows these names.
    fn completed_by_bash(words: &str) -> Vec<String> {
        let script = format!(
            r#"streamctl() {{ case "$*" in *context*) echo dev; echo prod;; *) echo sales;; esac; }}
{}
COMP_WORDS=({words} "") COMP_CWORD=$(({count}))
_streamctl_with_names streamctl "" ""
printf '%s\n' "${{COMPREPLY[@]}}""#,
            completions(Shell::Bash),
            count = words.split_whitespace().count()
        );
        let ran = std::process::Command::new("bash")
            .args(["-c", &script])
            .output()
            .unwrap();
        assert!(
            ran.status.success(),
            "{}",
            String::from_utf8_lossy(&ran.stderr)
        );
        String::from_utf8_lossy(&ran.stdout)
            .lines()
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn a_shell_completes_contexts_and_jobs_where_they_belong() {
        let has =
            |words: &str, name: &str| completed_by_bash(words).iter().any(|word| word == name);
        for words in [
            "streamctl context use",
            "streamctl context show",
            "streamctl --context",
        ] {
            assert!(has(words, "prod") && !has(words, "sales"), "{words}");
        }
        assert!(has("streamctl status", "sales") && !has("streamctl status", "prod"));
        assert!(!has("streamctl context add", "prod") && !has("streamctl submit", "sales"));
    }

    #[test]
    fn every_verb_has_a_manual_page() {
        let folder = tempfile::tempdir().unwrap();
        let (mut out, data, _) = captured(Format::Json);
        man(
            &ManArgs {
                out: folder.path().join("man"),
            },
            &mut out,
        )
        .unwrap();
        let pages: serde_json::Value = serde_json::from_str(&data.text()).unwrap();
        crate::output::tests::documented("man", &pages);
        let main = std::fs::read_to_string(folder.path().join("man/streamctl.1")).unwrap();
        for verb in verbs().iter().filter(|verb| *verb != "help") {
            let page =
                std::fs::read_to_string(folder.path().join(format!("man/streamctl-{verb}.1")))
                    .unwrap();
            assert!(
                page.contains(".SH NAME") && main.contains(&verb.replace('-', "\\-")),
                "{verb}"
            );
            assert!(
                pages["pages"]
                    .as_array()
                    .unwrap()
                    .contains(&format!("streamctl-{verb}.1").into())
            );
        }
        assert!(folder.path().join("man/streamctl-context-add.1").exists());
        assert!(main.contains("Exit codes"), "{main}");
    }
}
