//! What the tests need from the package registries, brought under `target/` once.
//!
//! Invariant: a stamp holds what an installation was made from; nothing is fetched again while that is unchanged.
//! Not here: any registry's address. Each tool uses its own configuration.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::say;

/// The repository's root.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Where what is fetched and built for the tests goes.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// A Java program's libraries, by Maven: the directory of jars.
pub fn jars(pom: &Path, kafka_version: &str, dir: &Path) -> Result<PathBuf> {
    let stamp = fs::read_to_string(pom)?;
    once(dir, &stamp, || {
        say(&format!("installing: Kafka {kafka_version}'s libraries for {}, by Maven", name(pom)));
        let mut command = tool("mvn", "Maven", "a Kafka broker and the Java client")?;
        command.args(["-B", "-q", "-f"]).arg(pom).arg(format!("-Dkafka.version={kafka_version}"));
        command.args(["dependency:copy-dependencies", "-DincludeScope=runtime"]).arg(prefixed("-DoutputDirectory=", dir));
        run(&mut command)
    })?;
    Ok(dir.to_path_buf())
}

/// Compiles Java sources: the directory of classes.
pub fn java_classes(sources: &Path, jars: &Path, classes: &Path) -> Result<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(sources)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    files.sort();
    let mut stamp = String::new();
    for file in &files {
        stamp.push_str(&fs::read_to_string(file)?);
    }
    once(classes, &stamp, || {
        let mut command = tool("javac", "A Java development kit, 11 or newer,", "the Java client")?;
        command.args(["-nowarn", "-Xlint:-deprecation,-removal", "-cp"]).arg(jars.join("*")).arg("-d").arg(classes).args(&files);
        run(&mut command)
    })?;
    Ok(classes.to_path_buf())
}

/// Builds a Go program: the executable. Go keeps a cache of its own.
pub fn go_program(dir: &Path, modfile: &str, executable: &Path) -> Result<PathBuf> {
    if !executable.exists() {
        say(&format!("building: the Go client {}", name(executable)));
    }
    let mut command = tool("go", "Go, 1.26 or newer (older ones fetch it),", "the clients franz-go, sarama and kafka-go")?;
    command
        .current_dir(dir)
        .args(["build", "-mod=readonly", "-trimpath"])
        .arg(format!("-modfile={modfile}"))
        .arg("-o")
        .arg(executable)
        .arg(".");
    run(&mut command)?;
    Ok(executable.to_path_buf())
}

/// A virtual environment with pinned packages: its interpreter.
pub fn python(requirements: &Path, dir: &Path) -> Result<PathBuf> {
    let stamp = fs::read_to_string(requirements)?;
    let interpreter = dir.join("bin").join("python");
    once(dir, &stamp, || {
        say("installing: the Python clients, by pip");
        run(tool("python3", "Python, 3.10 or newer,", "the clients librdkafka and aiokafka")?.args(["-m", "venv"]).arg(dir))?;
        let mut pip = Command::new(&interpreter);
        pip.args(["-m", "pip", "install", "-q", "--disable-pip-version-check", "--only-binary=:all:", "-r"]).arg(requirements);
        run(&mut pip)
    })?;
    Ok(interpreter)
}

/// A Node.js program with its locked packages: the file to run, `main`, beside all the others.
pub fn node_program(source: &Path, main: &str, dir: &Path) -> Result<PathBuf> {
    tool("node", "Node.js, 18 or newer,", "the client kafkajs")?;
    let stamp = fs::read_to_string(source.join("package-lock.json"))?;
    once(dir, &stamp, || {
        say("installing: kafkajs, by npm");
        for file in ["package.json", "package-lock.json"] {
            fs::copy(source.join(file), dir.join(file))?;
        }
        run(tool("npm", "npm", "the client kafkajs")?.current_dir(dir).args([
            "ci",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--silent",
        ]))
    })?;
    for entry in fs::read_dir(source)? {
        let file = entry?.path();
        if file.extension().is_some_and(|extension| extension == "js") {
            fs::copy(&file, dir.join(file.file_name().unwrap_or_default()))?;
        }
    }
    Ok(dir.join(main))
}

/// Runs `install` unless `dir` was installed from the same `stamp`; a half installation is removed first.
fn once(dir: &Path, stamp: &str, install: impl FnOnce() -> Result<()>) -> Result<()> {
    let stamp_file = dir.with_extension("installed");
    if dir.is_dir() && fs::read_to_string(&stamp_file).is_ok_and(|found| found == stamp) {
        return Ok(());
    }
    if dir.exists() {
        fs::remove_dir_all(dir)?;
    }
    fs::create_dir_all(dir)?;
    install()?;
    fs::write(&stamp_file, stamp)?;
    Ok(())
}

/// A command, if the machine has it; else an error that says what for it is needed.
fn tool(program: &str, what: &str, purpose: &str) -> Result<Command> {
    let found = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).any(|dir| dir.join(program).is_file());
    if !found {
        bail!("{what} is needed for {purpose}: there is no `{program}` on the PATH");
    }
    Ok(Command::new(program))
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("running {command:?}"))?;
    if !output.status.success() {
        bail!(
            "{command:?} failed: {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

fn prefixed(prefix: &str, path: &Path) -> OsString {
    let mut joined = OsString::from(prefix);
    joined.push(path);
    joined
}

fn name(path: &Path) -> String {
    let part = if path.ends_with("pom.xml") { path.parent().and_then(Path::file_name) } else { path.file_name() };
    part.unwrap_or_default().to_string_lossy().into_owned()
}
