//! Languages, servers and tools of this machine, by the scripts of `tests/scripts`: natively, in a network namespace of
//! its own, and in the sandbox on each platform they must print the same.

use runsc_tests::compare_script;

macro_rules! scripts {
    ($($name:ident)*) => {
        $(#[test] fn $name() { compare_script(include_str!(concat!("../scripts/", stringify!($name), ".sh"))); })*
    };
}

scripts!(java go php ruby lua npm python_tls memcached postgresql make git rsync misc fio strace);
