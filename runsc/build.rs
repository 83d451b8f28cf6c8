//! Builds the sentry as a freestanding image and flattens it, so that the binary can embed it.
//!
//! A nested cargo builds `sentry-image` for the address layout of each platform: it needs its own code model and
//! linker script, which a workspace build cannot give to one package. `RUNSC_SENTRY_IMAGE_KVM` and
//! `RUNSC_SENTRY_IMAGE_SYSTRAP` name flat images to embed instead.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use object::elf;
use object::read::elf::{FileHeader, ProgramHeader};
use sha2::{Digest, Sha256};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Address layout of an image.
struct Layout {
    name: &'static str,
    code_model: &'static str,
    base: u64,
}

const LAYOUTS: &[Layout] = &[
    Layout { name: "kvm", code_model: "kernel", base: 0xffff_ffff_8000_0000 },
    Layout { name: "systrap", code_model: "small", base: 0x4000_0000 },
];
/// Every name of a layout that the sources may test for.
const LAYOUT_NAMES: &str = "\"kvm\",\"systrap\"";
const TARGET: &str = "x86_64-unknown-linux-gnu";

fn main() -> Result<()> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("..").canonicalize()?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    for source in ["abi", "sentry", "sentry-image", "Cargo.toml"] {
        println!("cargo::rerun-if-changed={}", root.join(source).display());
    }
    let commit = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).current_dir(&root).output();
    let commit = commit.ok().filter(|o| o.status.success()).and_then(|o| String::from_utf8(o.stdout).ok());
    println!("cargo::rustc-env=RUNSC_COMMIT={}", commit.as_deref().map_or("unknown", str::trim));
    println!("cargo::rerun-if-changed={}", root.join(".git/HEAD").display());

    fs::write(out.join("syscalls.rs"), syscalls(&root.join("sentry/src/syscalls/table.rs"))?)?;

    for layout in LAYOUTS {
        let variable = format!("RUNSC_SENTRY_IMAGE_{}", layout.name.to_uppercase());
        println!("cargo::rerun-if-env-changed={variable}");
        let flat = out.join(format!("sentry-{}.bin", layout.name));
        match env::var_os(&variable) {
            Some(given) => {
                println!("cargo::rerun-if-changed={}", Path::new(&given).display());
                fs::copy(&given, &flat)?;
            }
            None => fs::write(&flat, flatten(&build(&root, &out, layout)?, layout)?)?,
        }
        let digest: String =
            Sha256::digest(fs::read(&flat)?).iter().map(|byte| format!("{byte:02x}")).collect();
        println!("cargo::rustc-env=RUNSC_SENTRY_DIGEST_{}={digest}", layout.name.to_uppercase());
    }
    Ok(())
}

/// The sentry's table of system calls as a table of `runsc`, without its handlers: lines of the form
/// `NUMBER "NAME" LEVEL HANDLER, "NOTE";`.
fn syscalls(path: &Path) -> Result<String> {
    let text = fs::read_to_string(path)?;
    let (_, table) = text.split_once("\ntable! {\n").ok_or("the table of system calls has no beginning")?;
    let (table, _) = table.split_once("\n}").ok_or("the table of system calls has no end")?;
    let mut rows = String::new();
    let mut before = None;
    for line in table.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//")) {
        let mut row = || {
            let (number, rest) = line.split_once(' ')?;
            let (name, rest) = rest.split_once(' ')?;
            let (level, rest) = rest.split_once(' ')?;
            let (_, note) = rest.strip_suffix(';')?.split_once(", \"")?;
            let number: u32 = number.parse().ok().filter(|n| before < Some(*n))?;
            before = Some(number);
            let known = matches!(level, "Full" | "Partial" | "Refused" | "Missing");
            let row = format!("({number}, {name}, {level:?}, \"{note}),");
            known.then_some(row)
        };
        rows += &row().ok_or_else(|| {
            format!("the table of system calls has a line of another form, or out of order: {line}")
        })?;
    }
    Ok(format!("/// Every system call.\npub static SYSCALLS: &[Row] = &[{rows}];\n"))
}

/// Builds the image and returns the path of its ELF file.
fn build(root: &Path, out: &Path, layout: &Layout) -> Result<PathBuf> {
    let target_dir = out.join(format!("sentry-{}", layout.name));
    let script = root.join(format!("sentry-image/{}.ld", layout.name));
    let mut flags = vec![
        "-Cpanic=abort".into(),
        "-Cno-redzone=yes".into(),
        "-Crelocation-model=static".into(),
        format!("-Ccode-model={}", layout.code_model),
        "-Cforce-frame-pointers=yes".into(),
        "-Cdefault-linker-libraries=no".into(),
        format!("--cfg=image_layout=\"{}\"", layout.name),
        format!("--check-cfg=cfg(image_layout,values({LAYOUT_NAMES}))"),
    ];
    for arg in [
        "-nostartfiles",
        "-nostdlib",
        "-static",
        "-no-pie",
        &format!("-Wl,-T,{}", script.display()),
        "-Wl,--gc-sections",
        "-Wl,--build-id=none",
        "-Wl,-z,max-page-size=4096",
    ] {
        flags.push(format!("-Clink-arg={arg}"));
    }
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // What the outer cargo says of its own build must not reach the inner one.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let ours = text.starts_with("CARGO") && !matches!(&*text, "CARGO_HOME" | "CARGO_NET_OFFLINE");
        if ours
            || text.starts_with("RUSTC")
            || matches!(&*text, "RUSTFLAGS" | "TARGET" | "OUT_DIR" | "PROFILE")
        {
            cargo.env_remove(&name);
        }
    }
    let status = cargo
        .arg("build")
        .arg("--quiet")
        .arg("--manifest-path")
        .arg(root.join("sentry-image/Cargo.toml"))
        .args(["--profile", "sentry", "--target", TARGET, "--target-dir"])
        .arg(&target_dir)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        .status()?;
    if !status.success() {
        return Err(format!("building the sentry image for {} failed ({status})", layout.name).into());
    }
    Ok(target_dir.join(TARGET).join("sentry/sentry-image"))
}

/// The loadable segments of an ELF file as they lie in memory from the layout's base.
fn flatten(path: &Path, layout: &Layout) -> Result<Vec<u8>> {
    let data = fs::read(path)?;
    let header = elf::FileHeader64::<object::Endianness>::parse(&*data)?;
    let endian = header.endian()?;
    let mut flat = Vec::new();
    for segment in header.program_headers(endian, &*data)? {
        if segment.p_type(endian) != elf::PT_LOAD {
            continue;
        }
        let bytes = segment.data(endian, &*data).map_err(|()| "a segment lies outside the file")?;
        if bytes.is_empty() {
            continue;
        }
        let at = segment.p_vaddr(endian).checked_sub(layout.base).ok_or("a segment lies below the base")?;
        let at = usize::try_from(at)?;
        if flat.len() < at + bytes.len() {
            flat.resize(at + bytes.len(), 0);
        }
        flat[at..at + bytes.len()].copy_from_slice(bytes);
    }
    Ok(flat)
}
