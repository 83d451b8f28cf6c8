//! bash without a terminal: jobs, traps, redirections and here-documents, natively and in the sandbox.

use runsc_tests::compare;

fn bash(script: &str) {
    compare(&["/bin/bash", "-c", script], b"");
}

#[test]
fn a_long_sleep_ends() {
    // Longer than the timer of a virtual CPU can count.
    bash("sleep 4.6; echo awake");
}

#[test]
fn waiting() {
    bash(
        "(sleep 0.3; exit 3) & (sleep 0.05; exit 5) & wait -n; echo $?; wait -n; echo $?; wait -n; echo $?; \
         (exit 7) & p=$!; wait $p; echo $?; wait $p; echo $?; wait 99999 2>/dev/null; echo $?; \
         (sleep 0.05; exit 9) & wait -n -p who; echo $? $((who == $!)); wait %9 2>/dev/null; echo $?; \
         for i in 1 2 3 4; do (exit $i) & done; wait; echo $?; sleep 5 & sleep 5 & kill $(jobs -p); wait; echo $?",
    );
}

#[test]
fn coprocesses_and_process_substitution() {
    bash(
        "coproc UP { while read -r l; do echo \"${l^^}\"; done; }; echo one >&${UP[1]}; read -r a <&${UP[0]}; echo $a; \
         echo two >&${UP[1]}; read -r a <&${UP[0]}; echo $a; eval \"exec ${UP[1]}>&-\"; wait $UP_PID; echo $?; \
         diff <(seq 5) <(seq 2 6); echo $?; cat <(echo a) <(echo b) <(echo c); seq 10 | tee >(wc -l > n) > /dev/null; \
         while [ ! -s n ]; do sleep 0.01; done; cat n; paste <(printf '%s\\n' 1 2 3) <(printf '%s\\n' x y z); \
         while read -r x y; do echo \"$y$x\"; done < <(echo 1 2; echo 3 4); exec 9< <(echo from nine); cat <&9",
    );
}

#[test]
fn traps_and_signals() {
    bash(
        "trap 'echo exit $?' EXIT; trap 'echo usr1' USR1; trap 'echo usr2' USR2; kill -USR1 $$; kill -USR2 $$; echo here; \
         (trap - USR1; kill -USR1 $BASHPID; echo never); echo $?; (trap '' TERM; kill $BASHPID; echo ignored); \
         bash -c 'trap \"echo child; exit 4\" TERM; kill $$; echo never'; echo $?; trap 'echo error $?' ERR; false; trap - ERR; \
         trap 'echo chld' CHLD; sleep 0.02 & wait; trap - CHLD; trap -p | wc -l; \
         (sleep 0.1; kill -USR1 $$) & sleep 0.3; wait; (sleep 5) & kill -STOP $!; sleep 0.05; kill -KILL $!; wait $!; echo $?; \
         for s in HUP INT QUIT PIPE ALRM TERM; do bash -c \"kill -$s \\$\\$; echo survived\"; echo $s $?; done 2>/dev/null; \
         set -e; trap 'echo unwinding' EXIT; (exit 6); echo never",
    );
    bash(
        "(trap 'echo interrupted; exit 8' INT; sleep 0.1 & wait; echo done) & p=$!; sleep 0.03; kill -INT $p; wait $p; echo $?; \
         f() { local i; for i in 1 2 3; do sleep 0.02; done; }; trap 'n=$((n + 1))' USR1; n=0; \
         (for i in 1 2 3 4 5; do kill -USR1 $$; sleep 0.05; done) & wait $!; until [ $n -ge 5 ]; do wait 2>/dev/null; f; \
         [ $n -ge 5 ] || kill -0 $! 2>/dev/null || break; done; [ $n -ge 4 ] && echo all",
    );
}

#[test]
fn job_control_without_a_terminal() {
    bash(
        "set -m; sleep 100 & p=$!; sleep 200 & q=$!; jobs | sed 's/sleep/S/'; kill -STOP %1; sleep 0.1; jobs %1; kill -CONT %1; sleep 0.1; jobs -r | wc -l; \
         kill %1 %2; wait $p; echo $?; wait $q; echo $?; (exit 3) & wait $!; echo $?; sleep 0.05 & fg %+ > /dev/null; echo $?; \
         pgid() { ps -o pgid= -p $1 | tr -d ' '; }; sleep 5 & a=$!; sleep 5 & b=$!; [ $(pgid $a) = $a ] && [ $(pgid $b) = $b ] && echo groups; \
         kill -- -$a; wait $a; echo $?; disown $b; jobs; kill $b; set +m; sleep 5 & c=$!; [ $(pgid $c) = $(pgid $$) ] && echo shared; kill $c; \
         sleep 0.5 | sleep 6 & kill -STOP $!; sleep 0.05; kill -KILL $! %1 2>/dev/null; wait 2>/dev/null; echo end; suspend 2>/dev/null; echo $?",
    );
}

#[test]
fn redirections() {
    bash(
        "exec 3> three 4>&1; echo to three >&3; echo to four >&4; exec 3>&-; cat three; echo closed >&3; echo $?; \
         exec 5<> both; echo abc >&5; read -r l <&5; echo \"<$l>\"; exec 5< both; read -r -N 2 l <&5; echo $l; cat <&5; exec 5<&-; \
         { echo out; echo err >&2; } > all 2>&1; cat all; { echo out; echo err >&2; } 2>&1 > only | tr a-z A-Z; cat only; \
         ls /nosuch 2>/dev/null || echo failed; echo more >> all; wc -l < all; set -C; echo x > all; echo $?; echo y >| all; cat all; set +C; \
         exec {fd}< all; cat <&$fd; exec {fd}<&-; echo a b c > f; read -r x y < f; echo $y; : > empty; wc -c < empty; \
         (exec > inner; echo inside); cat inner; echo x 3>&1 1>&2 2>&3 3>&- | cat; echo tty < /dev/null > /dev/null; : < missing; echo $?; \
         cat - three < f; echo pipe |& cat; echo hi > /dev/stdout | cat; echo e 2>&1 >/dev/null | wc -c; cat /dev/fd/0 < f; cat < /dev/stdin < f",
    );
}

#[test]
fn here_documents_and_strings() {
    bash(
        "x=val; cat <<A\nplain $x $(echo sub) `echo tick` \\$x $((1 + 2))\nA\ncat <<'B'\nquoted $x $(echo)\nB\ncat <<-C\n\ttab $x\n\tC\n\
         cat <<D; cat <<E\nfirst\nD\nsecond\nE\ncat <<< \"string $x\"; read -r a b <<< 'one two three'; echo \"$b\"; \
         f() { cat <<F\nin function $1\nF\n}; f arg; while read -r l; do echo \"[$l]\"; done <<G\n1\n\n 3\nG\n\
         cat 3<<H <&3\nby three\nH\n cat <<I | sed s/a/A/ && echo ok\na b a\nI\n\
         big=$(seq 30000); cat <<J | md5sum\n$big\nJ\nmd5sum <<< \"$big\"; bash <<'K'\necho nested; cat <<L\ndeep $0\nL\nK\n",
    );
}
