strace -o t -e trace=openat,write,execve,exit_group /bin/echo hello; grep -c openat t; grep -E 'write|exit' t; grep -c execve t
strace -f -o t -e trace=process sh -c 'true; /bin/echo x | /bin/cat; (exit 3)'; grep -cE 'execve\(' t; grep -cE 'exited with 0' t; tail -1 t | sed 's/^[0-9]* *//'
strace -c -o t ls / >/dev/null; grep -cE ' (mmap|execve)$' t
strace -f -o t python3 -c 'import threading; t=[threading.Thread(target=lambda: None) for i in range(5)]; [x.start() for x in t]; [x.join() for x in t]'; [ $(grep -c 'exited with 0' t) -ge 3 ] && echo threads
strace -o t -e inject=getuid:error=EPERM -e trace=getuid id -u ; cat t | head -2
strace -o t -e trace=kill,rt_sigaction -e signal=USR1 sh -c 'trap "echo got" USR1; kill -USR1 $$'; grep -E -- '--- SIG' t | sed 's/si_pid=[0-9]*/si_pid=N/'
sleep 100 & P=$!; (sleep 0.3; kill -KILL $P) & strace -q -o t -p $P; { wait $P; } 2>/dev/null; grep -oE 'killed by SIGKILL' t
strace -f --seccomp-bpf -o t -e trace=openat sh -c 'cat /etc/hostname' >/dev/null; grep -c hostname t
strace -y -tt -s 5 -o t cat /etc/passwd > /dev/null; grep -cE 'read\(3</etc/passwd>' t
(strace -o t sh -c 'kill -SEGV $$'; echo $?) 2>/dev/null; tail -1 t | tr -d +
rm t
