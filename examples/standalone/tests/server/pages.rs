//! Every command of every page is run as it stands.
//!
//! Commands are the blocks marked `sh`, and the code within a line that begins like one. They run in
//! a copy of the repository's root, in the order of the page. In the place of `cargo`, `make` and
//! `npm` are scripts that do not build: they look that what is named exists, and run the programs
//! that the tests have built anyway. Of a server it is seen that it answers; it runs on until the
//! page starts another one, or ends.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command as StdCommand, Stdio},
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpSocket, TcpStream},
    process::{Child, Command},
    task::JoinHandle,
    time::timeout,
};

use crate::support::{Client, PATIENCE, clean, reserve_address, run};

/// What a server says when it can be asked.
const LISTENING: &str = "http://127.0.0.1:";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The pages that a user reads, by their paths from the root, with their texts.
fn pages() -> Vec<(String, String)> {
    let root = root();
    let mut paths = vec![root.join("README.md"), root.join("CONTRIBUTING.md")];
    let in_folder = |folder: &str| {
        let entries = fs::read_dir(root.join(folder)).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect::<Vec<_>>()
    };
    paths.extend(in_folder("docs"));
    for folder in [in_folder("examples"), in_folder("")].concat() {
        paths.extend([folder.join("README.md"), folder.join("src/main.rs")]);
    }
    let mut pages: Vec<_> = paths
        .into_iter()
        .filter(|path| path.extension().is_some_and(|kind| kind == "md" || kind == "rs"))
        .filter(|path| !path.starts_with(root.join("benches")))
        .filter_map(|path| {
            let text = fs::read_to_string(&path).ok()?;
            let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
            Some((name, text))
        })
        .collect();
    pages.sort();
    assert!(pages.len() > 10, "{pages:?}");
    pages
}

/// The text of a page: all of it, or what a program says of itself.
fn prose(name: &str, text: &str) -> String {
    match name.ends_with(".rs") {
        true => text
            .lines()
            .filter_map(|line| line.strip_prefix("//!"))
            .fold(String::new(), |all, line| all + line.strip_prefix(' ').unwrap_or(line) + "\n"),
        false => text.to_owned(),
    }
}

/// The fenced blocks of a kind, and the text without any block.
fn blocks(text: &str, kind: &str) -> (Vec<String>, String) {
    let (mut blocks, mut rest, mut inside) = (Vec::new(), String::new(), None);
    for line in text.lines() {
        match (line.strip_prefix("```"), &mut inside) {
            (Some(opened), None) => inside = Some((opened == kind, String::new())),
            (Some(_), Some(_)) => {
                if let Some((true, block)) = inside.take() {
                    blocks.push(block);
                }
            }
            (None, Some((_, block))) => *block += &format!("{line}\n"),
            (None, None) => rest += &format!("{line}\n"),
        }
    }
    (blocks, rest)
}

/// What is to be run of a page, in its order: first the blocks, then what stands within lines.
fn scripts(name: &str, text: &str) -> Vec<String> {
    let (mut scripts, rest) = blocks(&prose(name, text), "sh");
    let within_lines = rest.split('`').skip(1).step_by(2).map(|code| code.replace('\n', " "));
    let is_command = |code: &String| {
        ["cargo ", "make ", "npm ", "curl ", "signaling-server "]
            .iter()
            .any(|program| code.starts_with(program))
    };
    // A page that speaks of npm is in the folder of its package.
    let folder = Path::new(name).parent().unwrap_or(Path::new("")).display();
    scripts.extend(within_lines.filter(is_command).map(|code| match code.starts_with("npm ") {
        true => format!("cd ./{folder} && {code}"),
        false => code,
    }));
    scripts
}

/// A folder that looks like the root of the repository, with programs in front of all others.
struct Stage {
    folder: tempfile::TempDir,
    /// Where its servers listen, one after the other.
    address: String,
    _reserved: TcpSocket,
}

impl Stage {
    fn new(programs: &[(&str, String)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (_reserved, address) = reserve_address();
        let clone = folder.path().join("signaling");
        let bin = folder.path().join("bin");
        fs::create_dir(&clone).unwrap();
        fs::create_dir(&bin).unwrap();
        for entry in fs::read_dir(root()).unwrap() {
            let entry = entry.unwrap();
            symlink(entry.path(), clone.join(entry.file_name())).unwrap();
        }
        for (name, script) in programs {
            let path = bin.join(name);
            fs::write(&path, format!("#!/bin/sh\nset -eu\n{script}")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        // Requests go to the port of this test, and an answer that is an error is one of curl's.
        let ports = [3000, 8080].map(|usual| format!("connect-to = 127.0.0.1:{usual}:{address}"));
        let curlrc = format!("silent\nfail-with-body\n{}\n", ports.join("\n"));
        fs::write(folder.path().join(".curlrc"), curlrc).unwrap();
        Self { folder, address, _reserved }
    }

    /// What the scripts have said on standard error.
    fn log(&self) -> PathBuf {
        self.folder.path().join("stderr")
    }

    fn sh(&self, script: &str) -> Command {
        let mut sh = clean(Command::new("sh"));
        let folder = self.folder.path();
        let path = std::env::var("PATH").unwrap();
        sh.args(["-euc", script])
            .current_dir(folder.join("signaling"))
            .env_remove("CARGO")
            .env_remove("MAKEFLAGS")
            .env_remove("MAKELEVEL")
            .env_remove("JWT_SECRET")
            .env("PATH", format!("{}:{path}", folder.join("bin").display()))
            .env("CURL_HOME", folder)
            .env("SIGNALING_LISTEN", &self.address)
            .env("LISTEN", &self.address)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(fs::File::options().create(true).append(true).open(self.log()).unwrap())
            .process_group(0)
            .kill_on_drop(true);
        sh
    }
}

/// A script that runs on, and all that it has started.
struct Running {
    shell: Child,
    /// Reads what they say, to the end of the last one.
    reader: Option<JoinHandle<()>>,
}

impl Running {
    fn start(mut command: Command) -> Self {
        Self { shell: command.spawn().unwrap(), reader: None }
    }

    fn signal(&self, signal: &str) {
        if let Some(group) = self.shell.id() {
            let _ = StdCommand::new("kill").args([signal, "--", &format!("-{group}")]).status();
        }
    }

    async fn end(mut self) {
        self.signal("-TERM");
        let ended = async {
            // The shell may end before the server, which still has its port.
            if let Some(reader) = self.reader.take() {
                reader.await.unwrap();
            }
            self.shell.wait().await.unwrap();
        };
        timeout(PATIENCE, ended).await.expect("it ends when it is told to");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.signal("-KILL");
    }
}

/// Runs a script until it ends, or until the server that it starts answers.
async fn start(stage: &Stage, script: &str) -> Result<Option<Running>, String> {
    let mut child = Running::start(stage.sh(script));
    let mut lines = BufReader::new(child.shell.stdout.take().unwrap()).lines();
    let mut said = String::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        said += &format!("{line}\n");
        let Some((_, address)) = line.split_once("http://") else { continue };
        let address = address.trim().to_owned();
        if !line.contains(LISTENING) {
            return Err(format!("listens elsewhere: {line}"));
        }
        let mut socket = TcpStream::connect(&address).await.unwrap();
        let request = format!("GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        if !answer.starts_with("HTTP/1.1 ") {
            return Err(format!("no answer: {answer}"));
        }
        // Whatever else it says is read, so that it is not held up.
        let reader = async move { while let Ok(Some(_)) = lines.next_line().await {} };
        child.reader = Some(tokio::spawn(reader));
        return Ok(Some(child));
    }
    match child.shell.wait().await.unwrap() {
        status if status.success() => Ok(None),
        status => Err(format!("{status}: {said}{}", fs::read_to_string(stage.log()).unwrap())),
    }
}

/// Runs a page from its first command to its last, and says what failed.
async fn read(name: &str, text: &str, programs: &[(&str, String)]) -> Vec<String> {
    let (stage, mut server, mut failures) = (Stage::new(programs), None::<Running>, Vec::new());
    for script in scripts(name, text) {
        // What starts a server takes the port of the one before.
        let starts = ["cargo run", "make run", "signaling-server "];
        if starts.iter().any(|start| script.contains(start))
            && let Some(server) = server.take()
        {
            server.end().await;
        }
        match timeout(PATIENCE, start(&stage, &script)).await {
            Ok(Ok(started)) => server = started.or(server),
            Ok(Err(problem)) => failures.push(format!("{name}: {script}: {problem}")),
            Err(_) => failures.push(format!("{name}: {script}: not within {PATIENCE:?}")),
        }
    }
    if let Some(server) = server {
        server.end().await;
    }
    failures
}

/// The programs in the place of those that would build.
fn programs() -> Vec<(&'static str, String)> {
    let built = Path::new(env!("CARGO_BIN_EXE_signaling-server")).parent().unwrap();
    let metadata = StdCommand::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&metadata.stdout).unwrap();
    let names = |kind: &str, package: &Value| -> Vec<String> {
        let targets = package["targets"].as_array().unwrap().iter();
        let targets = targets.filter(|target| target["kind"][0] == kind);
        targets.map(|target| target["name"].as_str().unwrap().to_owned()).collect()
    };
    let (mut run, mut known, mut targets) = (String::new(), String::new(), String::new());
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        known += &format!(" {name} ");
        for target in [names("test", package), names("bench", package)].concat() {
            targets += &format!(" {target} ");
        }
        if let [binary] = names("bin", package).as_slice() {
            let binary = built.join(binary);
            run += &format!("{name}) exec {} \"$@\" ;;\n", binary.display());
        }
    }
    let cargo = format!(
        r#"
is_known() {{ case " $2 " in *" $1 "*) ;; *) echo "there is no $1 in $2" >&2; exit 1 ;; esac; }}
subcommand=$1; shift; package=
while [ $# -gt 0 ]; do
    case $1 in
    --) shift; break ;;
    -p | --package) is_known "$2" "{known}"; package=$2; shift 2 ;;
    --test | --bench) is_known "$2" "{targets}"; shift 2 ;;
    --path) test -f "$2/Cargo.toml"; shift 2 ;;
    *) shift ;;
    esac
done
case $subcommand in
run) case $package in
{run}*) echo "nothing to run in '$package'" >&2; exit 1 ;; esac ;;
build | test | bench | install | fmt | clippy | doc) ;;
*) echo "no such command: cargo $subcommand" >&2; exit 1 ;;
esac
"#
    );
    let make = StdCommand::new("sh").args(["-c", "command -v make"]).output().unwrap();
    let make = String::from_utf8(make.stdout).unwrap();
    let make = format!(
        "make={}\ncase $1 in run) exec $make \"$@\" ;; *) $make -n \"$@\" > /dev/null ;; esac\n",
        make.trim()
    );
    let npm = "case $1 in ci) test -f package-lock.json ;; run) grep -q \"\\\"$2\\\":\" package.json ;;\n\
               test) grep -q '\"test\":' package.json ;; *) exit 1 ;; esac\n";
    // A test listens on loopback only.
    let server = format!(
        "for arg; do shift; case $arg in 0.0.0.0:8080) arg=$SIGNALING_LISTEN ;; esac; \
         set -- \"$@\" \"$arg\"; done\nexec {}/signaling-server \"$@\"\n",
        built.display()
    );
    vec![("cargo", cargo), ("make", make), ("npm", npm.to_owned()), ("signaling-server", server)]
}

#[tokio::test]
async fn every_command_of_every_page_works_as_it_stands() {
    let (programs, pages) = (programs(), pages());
    let reading = pages.iter().map(|(name, text)| read(name, text, &programs));
    let failures = futures::future::join_all(reading).await.concat();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    let commands: usize = pages.iter().map(|(name, text)| scripts(name, text).len()).sum();
    assert!(commands > 20, "{commands}: are they found at all?");
}

/// A command with an ellipsis cannot be run as it stands.
#[test]
fn no_command_is_left_for_the_reader_to_complete() {
    for (name, text) in pages() {
        for script in scripts(&name, &text) {
            assert!(!script.contains('…') && !script.contains("path/to"), "{name}: {script}");
        }
    }
}

/// Flags and variables of pages are those of `--help`.
#[tokio::test]
async fn pages_name_only_settings_that_there_are() {
    let (_, help) = run(&["--help"], &[]).await;
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let known: BTreeSet<_> = help.split(|c| !is_name(c)).collect();
    for (name, text) in pages() {
        for word in text.split(|c| !is_name(c)) {
            let word = word.trim_end_matches(['-', '_']);
            let is_variable = word.starts_with("SIGNALING_") && word != "SIGNALING_SERVER";
            if is_variable && !name.ends_with(".rs") {
                assert!(known.contains(word), "{name}: there is no {word}");
            }
        }
        let flags = text.split('`').skip(1).step_by(2).filter(|code| code.starts_with("--"));
        for flag in flags.filter_map(|code| code.split([' ', '=', '\n']).next()) {
            assert!(
                known.contains(flag) || name == "CONTRIBUTING.md",
                "{name}: there is no {flag}"
            );
        }
    }
}

/// The manifests that the pages show are those of an application beside the clone.
#[test]
fn the_manifests_of_the_pages_work_beside_the_clone() {
    let rustc = StdCommand::new("rustc").arg("-vV").output().unwrap();
    let version = String::from_utf8(rustc.stdout).unwrap();
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap().to_owned();
    let mut shown = 0;
    for (name, text) in pages() {
        for manifest in blocks(&text, "toml").0 {
            shown += 1;
            let beside = tempfile::tempdir().unwrap();
            symlink(root(), beside.path().join("signaling")).unwrap();
            let app = beside.path().join("app");
            fs::create_dir_all(app.join("src")).unwrap();
            fs::write(app.join("src/main.rs"), "fn main() {}\n").unwrap();
            // With the versions that are here, since there may be no network, and without the crates of other
            // platforms, which nothing has downloaded.
            fs::copy(root().join("Cargo.lock"), app.join("Cargo.lock")).unwrap();
            let package = "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2024\"\n";
            fs::write(app.join("Cargo.toml"), format!("{package}{manifest}")).unwrap();
            let mut cargo = StdCommand::new(env!("CARGO"));
            cargo.args(["metadata", "--offline", "--format-version", "1"]);
            cargo.args(["--filter-platform", &host]).current_dir(&app);
            let done = cargo.output().unwrap();
            let said = String::from_utf8_lossy(&done.stderr);
            assert!(done.status.success(), "{name}: {manifest}{said}");
        }
    }
    assert!(shown >= 3, "{shown}: are they found at all?");
}

/// An example that has no secret makes one, and says how a user gets a token.
#[tokio::test]
async fn examples_say_how_to_make_a_token_that_they_accept() {
    for (package, path) in
        [("axum-app", "/ws/signaling"), ("warp-app", "/ws/signaling"), ("raw-hyper", "/")]
    {
        let stage = Stage::new(&programs());
        let script = format!("cargo run -p {package}");
        let server = timeout(PATIENCE, start(&stage, &script)).await.unwrap().unwrap().unwrap();
        let said = fs::read_to_string(stage.log()).unwrap();
        let command = said.lines().find(|line| line.contains("examples/make-token ann"));
        let command = command.expect("a command that makes a token");
        let made = stage.sh(command).output().await.unwrap();
        assert!(made.status.success(), "{command}");
        let token = String::from_utf8(made.stdout).unwrap();
        let token = token.trim();
        let client = Client::at(&format!("ws://{}{path}?token={token}", stage.address)).await;
        client.known().await.close().await;
        server.end().await;
    }
}
