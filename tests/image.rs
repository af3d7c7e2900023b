//! What the image promises: a binary that needs nothing around it, as a user without rights, in a root that nobody can write to.
//!
//! No registry of images is needed: the binary is linked statically by the toolchain at hand (the image uses musl, see the Dockerfile) and
//! runs in a root that holds nothing else. Namespaces and chroot need root; without it, only that the binary is static is held.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The Dockerfile's.
const USER: &str = "65532:65532";

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Builds the binary in a directory of its own, which later runs find built.
fn static_binary() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("static");
    let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked", "--bin", "evenkeel", "--target", &host, "--target-dir"])
        .arg(&target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        // Set by the cargo that runs this test, and not meant for another build.
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        // The image's speed is not in question.
        .args(["--config", "profile.dev.package.\"*\".opt-level=0", "--config", "profile.dev.debug=false"])
        .output()
        .expect("cargo starts");
    assert!(built.status.success(), "{}", said(&built));
    target.join(host).join("debug/evenkeel")
}

/// Whether an ELF file asks for a loader (a program header of type PT_INTERP); one that does not is static.
fn asks_for_a_loader(elf: &[u8]) -> bool {
    const PT_INTERP: u32 = 3;
    let number = |at: usize, bytes: usize| {
        let field = elf.get(at..at + bytes).expect("is within the file");
        field.iter().rev().fold(0, |number: u64, byte| number << 8 | u64::from(*byte))
    };
    assert_eq!(elf.get(..5), Some(&[0x7f, b'E', b'L', b'F', 2][..]), "a 64-bit ELF file");
    let (table, size, count) = (number(32, 8) as usize, number(54, 2) as usize, number(56, 2) as usize);
    (0..count).any(|index| number(table + index * size, 4) == u64::from(PT_INTERP))
}

#[test]
fn the_binary_runs_alone_in_an_empty_read_only_root_as_nobody() {
    let binary = static_binary();
    let elf = std::fs::read(&binary).expect("was built");
    assert!(!asks_for_a_loader(&elf), "the binary is static");
    let dynamic = std::fs::read(env!("CARGO_BIN_EXE_evenkeel")).expect("was built");
    assert!(asks_for_a_loader(&dynamic), "and the check would tell one that is not");

    let id = Command::new("id").arg("-u").output().expect("id is there");
    if said(&id).trim() != "0" {
        eprintln!("not root: no empty root to run in");
        return;
    }
    let root = tempfile::tempdir().expect("is writable");
    std::fs::copy(&binary, root.path().join("evenkeel")).expect("is writable");
    // The script runs outside; within the root there is the binary alone. Of the namespaces, the network's has every port free, and the
    // processes' ends with the script, and all that it started.
    let script = r#"
        set -eu
        ip link set lo up
        mount --bind "$ROOT" "$ROOT"
        mount -o remount,bind,ro,nosuid,nodev "$ROOT"
        if touch "$ROOT/written" 2>/dev/null; then echo "the root can be written to"; exit 9; fi
        inside() { chroot --userspec="$USER_IDS" "$ROOT" /evenkeel "$@"; }
        inside --version
        inside check --upstream kafka.example:9092
        (exec chroot --userspec="$USER_IDS" "$ROOT" /evenkeel run --upstream 127.0.0.1:1) &
        running=$!
        for attempt in $(seq 100); do
            if inside probe 2>/dev/null; then echo "alive after $attempt"; break; fi
            sleep 0.1
        done
        echo "user: $(awk '/^(Uid|Gid):/ {print $2}' /proc/$running/status | paste -sd:)"
        inside probe
        inside probe --ready && exit 8
        kill -TERM $running
        wait $running
        echo "ended with $?"
    "#;
    let ran = Command::new("unshare")
        .args(["--mount", "--net", "--pid", "--fork", "--mount-proc", "sh", "-c", script])
        .env("ROOT", root.path())
        .env("USER_IDS", USER)
        .output()
        .expect("unshare is there");
    let told = said(&ran);
    assert!(ran.status.success(), "{told}");
    assert!(told.contains(&format!("evenkeel {}", env!("CARGO_PKG_VERSION"))), "{told}");
    assert!(told.contains("127.0.0.1:19093-19192"), "{told}");
    assert!(told.contains("alive after"), "{told}");
    assert!(told.contains(&format!("user: {USER}")), "{told}");
    assert!(told.contains("says 503: not ready: no broker has answered yet"), "{told}");
    assert!(told.contains("ended with 0"), "{told}");
}
