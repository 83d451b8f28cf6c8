# Pipes, redirections and here-documents of busybox's shell.
seq 1 3000 | sort -rn | head -n 3
seq 60 | xargs -n 7 echo | wc -l
yes | head -n 2
i=0
while [ $i -lt 20 ]; do echo $i; i=$((i + 1)); done | while read -r n; do echo $((n * n)); done | tail -n 2
mkfifo p; (echo through > p) & cat p; wait
cat <<X | rev
here $((6 * 7))
X
head -c 300000 /dev/zero | tr '\0' x | md5sum
mkdir d; for n in 1 2 3; do echo "line $n" > d/f$n; done
tar cf - d | tar tf - | sort; grep -rl 2 d; find d -type f | sort; awk '{sum += $2} END {print sum}' d/*
