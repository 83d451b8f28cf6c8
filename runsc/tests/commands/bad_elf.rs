//! Executables that are damaged. Each is refused with a message that names it, or ends by a signal; the sandbox and the
//! commands after it are unharmed.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::left::{listing, nothing_but};
use crate::support::{EXIT, Place, elf, platforms};

/// Offset of the first program header, and offsets in it (elf(5)).
const PHDR: usize = 64;
const P_TYPE: usize = PHDR;
const P_OFFSET: usize = PHDR + 8;
const P_VADDR: usize = PHDR + 16;
const P_FILESZ: usize = PHDR + 32;
const P_MEMSZ: usize = PHDR + 40;
const P_ALIGN: usize = PHDR + 48;

fn put(mut file: Vec<u8>, at: usize, value: &[u8]) -> Vec<u8> {
    file[at..at + value.len()].copy_from_slice(value);
    file
}

fn quad(at: usize, value: u64) -> Vec<u8> {
    put(elf(EXIT), at, &value.to_le_bytes())
}

fn half(at: usize, value: u16) -> Vec<u8> {
    put(elf(EXIT), at, &value.to_le_bytes())
}

/// A second program header of type `kind` behind the first, over `len` bytes at `offset`, and `data` at the end.
fn second(kind: u32, offset: u64, len: u64, vaddr: u64, memsz: u64, data: &[u8]) -> Vec<u8> {
    let mut file = put(elf(EXIT), 56, &2u16.to_le_bytes());
    let code = file.split_off(PHDR + 56);
    let mut header = kind.to_le_bytes().to_vec();
    header.extend(6u32.to_le_bytes());
    for n in [offset, vaddr, vaddr, len, memsz, 0x1000] {
        header.extend(n.to_le_bytes());
    }
    file.extend(header);
    file.extend(code);
    file.extend(data);
    // The entry moved behind the new header.
    let entry = u64::from_le_bytes(file[24..32].try_into().expect("eight bytes")) + 56;
    let whole = file.len() as u64;
    let file = put(put(file, 24, &entry.to_le_bytes()), P_FILESZ, &whole.to_le_bytes());
    put(file, P_MEMSZ, &whole.to_le_bytes())
}

fn interpreter(name: &[u8]) -> Vec<u8> {
    let at = second(3, 0, 0, 0, 0, name).len() as u64 - name.len() as u64;
    second(3, at, name.len() as u64, 0, name.len() as u64, name)
}

/// What becomes of a file.
enum Fate {
    /// The container is not made: the message.
    Refused(&'static str),
    /// As before, or the program is ended by a signal when it begins: how much of it is looked at before is left open.
    Bad,
    /// It runs.
    Runs,
    /// One or the other: memory that is only promised may be given.
    Either,
}

#[test]
fn damaged_files() {
    use Fate::{Bad, Either, Refused, Runs};
    const FORMAT: &str = "exec /bin/program: exec format error";
    const MISSING: &str = "exec /bin/program: no such file or directory";
    let good = elf(EXIT);
    let mut cases: Vec<(String, Vec<u8>, Fate)> = vec![("good".into(), good.clone(), Runs)];
    for len in [1, 3, 4, 16, 40, 63, 64, 65, 100, PHDR + 55] {
        cases.push((format!("the first {len} bytes"), good[..len].to_vec(), Refused(FORMAT)));
    }
    let last = good.len() - 1;
    cases.push(("all but the last byte".into(), good[..last].to_vec(), Bad));
    let mut add = |name: &str, file: Vec<u8>, fate: Fate| cases.push((name.into(), file, fate));
    add("another class", put(good.clone(), 4, &[1]), Refused(FORMAT));
    add("another byte order", put(good.clone(), 5, &[2]), Refused(FORMAT));
    add("another machine (aarch64)", half(18, 183), Refused(FORMAT));
    add("another machine (none)", half(18, 0), Refused(FORMAT));
    add("a relocatable file", half(16, 1), Refused(FORMAT));
    add("a core file", half(16, 4), Refused(FORMAT));
    add("no program headers", half(56, 0), Bad);
    add("65,535 program headers", half(56, 0xffff), Refused(FORMAT));
    add("program headers of another size", half(54, 32), Refused(FORMAT));
    add("program headers beyond the file", quad(32, 1 << 40), Refused(FORMAT));
    add("program headers at the end of all offsets", quad(32, u64::MAX - 8), Refused(FORMAT));
    add("an entry of zero", quad(24, 0), Bad);
    add("an entry in the kernel's half", quad(24, 0xffff_ffff_8000_0000), Bad);
    add("an entry that is no address", quad(24, 0x8000_0000_0000_0000), Bad);
    add("nothing to load", put(good.clone(), P_TYPE, &0u32.to_le_bytes()), Bad);
    add("a huge p_memsz", quad(P_MEMSZ, 1 << 46), Either);
    add("a p_memsz beyond all addresses", quad(P_MEMSZ, u64::MAX), Bad);
    add("a p_filesz above p_memsz", quad(P_MEMSZ, 8), Bad);
    add("a huge p_filesz", put(quad(P_FILESZ, 1 << 45), P_MEMSZ, &(1u64 << 45).to_le_bytes()), Either);
    add("an offset beyond the file", quad(P_OFFSET, 1 << 30), Bad);
    add("an offset at the end of all offsets", quad(P_OFFSET, u64::MAX - 0xfff), Bad);
    add("an offset that does not fit the address", quad(P_OFFSET, 8), Bad);
    add("an address of zero", quad(P_VADDR, 0), Bad);
    add("an address in the kernel's half", quad(P_VADDR, 0xffff_8000_0000_0000), Bad);
    add("an address that is none", quad(P_VADDR, 0x0000_9000_0000_0000), Bad);
    add("an alignment that is no power of two", quad(P_ALIGN, 3), Runs);
    add("a huge alignment", quad(P_ALIGN, 1 << 62), Runs);
    add("an overlapping segment", second(1, 0, 0x10, 0x40_0000, 0x1000, b""), Bad);
    add("a second segment of zeros", second(1, 0, 0, 0x60_0000, 0x8000, b""), Runs);
    add("a second segment that is huge", second(1, 0, 0, 0x60_0000, 1 << 46, b""), Either);
    add("an interpreter that is missing", interpreter(b"/nosuch/ld.so\0"), Refused(MISSING));
    add("an interpreter without its end", interpreter(b"/bin/program"), Refused(FORMAT));
    add("an empty interpreter", interpreter(b"\0"), Bad);
    add("an interpreter of no bytes", interpreter(b""), Refused(FORMAT));
    add("an interpreter that is too long", interpreter(&[b'/'; 5000]), Refused(FORMAT));
    add("an interpreter beyond the file", second(3, 1 << 40, 10, 0, 10, b""), Bad);
    add("an interpreter that is a directory", interpreter(b"/bin\0"), Bad);
    add("an interpreter that is no executable", interpreter(b"/bin/text\0"), Bad);

    let place = Place::new();
    let bin = place.bundle().join("rootfs/bin");
    fs::write(bin.join("text"), "text").expect("write");
    fs::set_permissions(bin.join("text"), fs::Permissions::from_mode(0o755)).expect("chmod");
    place.program("program", EXIT);
    place.configure(&["/bin/program"], |_| {});
    let mut wrong = Vec::new();
    for platform in platforms() {
        for (name, file, fate) in &cases {
            fs::write(bin.join("program"), file).expect("write");
            let before = listing(&place);
            let output = place.runsc(&["--platform", platform, "run", "c1"]);
            let (code, message) = (output.status.code(), String::from_utf8_lossy(&output.stderr));
            // SIGKILL, SIGSEGV, SIGBUS, SIGILL.
            let killed = matches!(code, Some(132 | 135 | 137 | 139));
            let told = message.contains("unable to start container process: exec /bin/program: ");
            let as_told = match fate {
                Refused(text) => code == Some(1) && message.contains(text),
                Bad => code == Some(1) && told || killed,
                Either => code == Some(1) && told || killed || code == Some(3),
                Runs => code == Some(3),
            };
            if !as_told {
                wrong.push(format!("{name} on {platform}: {code:?} {message}"));
            }
            nothing_but(&before, &place, name);
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
