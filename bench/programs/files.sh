# Files of the root and files in memory. Everything is read, and as much memory used, once before it is measured: memory
# that a machine touches for the first time may be its own host's to find.
cd /tmp
ms() { # label, command...
  local start=$EPOCHREALTIME
  "${@:2}" >/dev/null 2>&1
  local end=$EPOCHREALTIME
  echo "$1|$(((${end/./} - ${start/./}) / 1000))|ms"
}
list() { find /usr/share /usr/lib/python3* -xdev; }
pack() { tar cf - -C /usr/lib/python3.11 . | cat; }
list >/dev/null 2>&1
pack >/dev/null 2>&1
ms 'find over /usr/share, warm' list
ms 'tar of a Python library, warm' pack
dd if=/dev/zero of=/tmp/big bs=1M count=256 2>/dev/null
rm /tmp/big
ms 'dd of 256 MiB in blocks of 1 MiB' dd if=/dev/zero of=/tmp/big bs=1M count=256
ms 'dd of 256 MiB in blocks of 4 KiB' dd if=/dev/zero of=/tmp/big bs=4k count=65536 conv=notrunc
rate=$(fio --name=r --filename=/tmp/big --size=256m --rw=randread --bs=4k --ioengine=psync --runtime=1 --time_based \
  --output-format=terse 2>/dev/null | cut -d';' -f8)
echo "fio, random reads of 4 KiB|$rate|/s"
rm -f /tmp/big
