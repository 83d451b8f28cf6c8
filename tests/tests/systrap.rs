//! Programs that attack their sandbox where they can: under systrap they share an address space with code of ours.

use runsc_tests::{Bundle, compile, platforms};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_stub_that_lies_about_its_stop_reads_nothing_of_others() {
    if !platforms().iter().any(|platform| platform == "systrap") {
        return;
    }
    let root = tempfile::tempdir().expect("a directory");
    for dir in ["tmp", "proc", "dev", "sys"] {
        std::fs::create_dir(root.path().join(dir)).expect("a directory");
    }
    compile("liar", root.path());
    let bundle = Bundle::new(root.path(), &["/liar"]).expect("a bundle");
    let output = bundle.run("systrap", b"", LIMIT).expect("the run in the sandbox");
    // That it is believed shows that the attack is one: the memory was taken from it.
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text, "believed 1\nread 0\nended 1\n", "{}", String::from_utf8_lossy(&output.stderr));
}
