fio --name=v --rw=randrw --size=8M --bs=4k --verify=crc32c --verify_fatal=1 --ioengine=psync --numjobs=2 --directory=. --minimal >o 2>&1; echo $?; grep -i -E 'verify|error' o
fio --name=v --rw=randwrite --size=8M --bs=4k --verify=md5 --ioengine=mmap --directory=. --minimal >o 2>&1; echo $?; grep -i -E 'verify:|error' o
fio --name=v --rw=write --size=8M --bs=64k --verify=sha1 --ioengine=sync --fsync=16 --thread --numjobs=3 --directory=. --minimal >o 2>&1; echo $?
fio --name=v --rw=randwrite --size=4M --bs=4k --verify=crc32c --ioengine=vsync --directory=. --minimal > o 2>&1; echo $?; fio --name=v --rw=randwrite --size=4M --bs=4k --verify=crc32c --ioengine=pvsync2 --directory=. --minimal > o 2>&1; echo $?;  rm -f v.* o
