#!/bin/bash
# run.sh DIR RUNSC SCRIPT [FILES]: runs the shell script SCRIPT in an emulated machine with AMD SVM whose kernel serves
# /dev/kvm. DIR is what setup.sh made; RUNSC becomes /bin/runsc; the contents of the directory FILES are put at /.
# Environment: CPU, CPUS, MEMORY (MiB), NPT (0: shadow paging), LIMIT (seconds).
set -euo pipefail
dir=$(cd "$1" && pwd) runsc=$2 script=$3 files=${4:-}
: "${CPU:=max,-mpx}" "${CPUS:=2}" "${MEMORY:=1536}" "${NPT:=1}" "${LIMIT:=180}"
busybox=$dir/root/bin/busybox
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir -p "$root"/{bin,dev,etc,job,modules,proc,run,sys,tmp}
cp "$busybox" "$root/bin/busybox"
cp "$runsc" "$root/bin/runsc"
cp "$script" "$root/job/script"
[ -z "$files" ] || cp -a "$files/." "$root/"

# Modules in the order in which they are loaded; what the kernel has built in has no file.
tree=$(echo "$dir"/kernel/lib/modules/*/kernel)
count=0
for module in arch/x86/kvm/irqbypass virt/lib/irqbypass drivers/crypto/ccp/ccp arch/x86/kvm/kvm arch/x86/kvm/kvm-amd; do
  to=$root/modules/$count-$(basename "$module").ko
  if [ -f "$tree/$module.ko" ]; then cp "$tree/$module.ko" "$to"
  elif [ -f "$tree/$module.ko.xz" ]; then xz -dc "$tree/$module.ko.xz" > "$to"
  else continue; fi
  count=$((count + 1))
done

# pivot_root(2), which the jail of the sandbox uses, does not work on an initramfs: move to a tmpfs first.
cat > "$root/init" <<'I'
#!/bin/busybox sh
/bin/busybox mkdir /new
/bin/busybox mount -t tmpfs -o size=80%,mode=755 root /new
for entry in /*; do
  case $entry in /new | /dev | /proc | /sys | /tmp | /run | /init) ;; *) /bin/busybox cp -a "$entry" /new/ ;; esac
done
cd /new && /bin/busybox mkdir dev proc sys tmp run
/bin/busybox mknod -m 600 dev/console c 5 1
exec /bin/busybox switch_root /new /stage2
I
cat > "$root/stage2" <<I
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin HOME=/ TERM=dumb
mount -t proc p /proc; mount -t sysfs s /sys; mount -t devtmpfs d /dev
mount -t tmpfs -o mode=1777 t /tmp; mount -t tmpfs t /run; mkdir -p /dev/pts; mount -t devpts p /dev/pts
mount -t cgroup2 c /sys/fs/cgroup
for module in /modules/*.ko; do
  case \$module in *kvm-amd*) insmod \$module npt=$NPT ;; *) insmod \$module ;; esac
done
stty -F /dev/ttyS1 raw -echo; stty -F /dev/ttyS2 raw -echo
sh /job/script < /dev/null > /dev/ttyS1 2>&1
echo \$? > /dev/ttyS2
poweroff -f
I
chmod 755 "$root/init" "$root/stage2" "$root/bin/runsc"
(cd "$root" && find . | "$busybox" cpio -o -H newc 2> /dev/null) > "$work/initrd"

status=0
timeout -k 5 "$LIMIT" env LD_LIBRARY_PATH="$dir/root/usr/lib/x86_64-linux-gnu" \
  "$dir/root/usr/bin/qemu-system-x86_64" -L "$dir/root/usr/share/qemu" -L "$dir/root/usr/share/seabios" \
  -nodefaults -no-user-config -display none -no-reboot -machine q35 -accel tcg,thread=multi \
  -cpu "$CPU" -smp "$CPUS" -m "$MEMORY" -kernel "$dir"/kernel/boot/vmlinuz-* -initrd "$work/initrd" \
  -append "console=ttyS0 quiet loglevel=4 panic=-1 nokaslr mitigations=off clocksource=hpet" \
  -serial "file:$work/kernel.log" -serial stdio -serial "file:$work/status" < /dev/null 2> "$work/errors" || status=$?
told=$(tr -dc 0-9 < "$work/status" || true)
if [ -z "$told" ]; then
  grep -v "TCG doesn't support" "$work/errors" >&2 || true
  tail -n 30 "$work/kernel.log" >&2 || true
  [ "$status" = 124 ] && exit 124
  exit 125
fi
exit "$told"
