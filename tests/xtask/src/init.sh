#!/bin/busybox sh
# First process of the emulated kernels: makes the system that the tests expect, runs them, says how they ended and switches off.
/bin/busybox --install -s /bin
export PATH=/bin HOME=/root NETFLUME_BIN=/bin/netflume NETFLUME_EMULATED=1 RUST_BACKTRACE=1
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmpfs /tmp
mkdir -p /dev/shm /run
ln -sf /proc/self/fd /dev/fd
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
for module in /modules/*.ko; do insmod "$module" || echo "cannot load $module"; done
ip link set lo up
hostname netflume-vm
ulimit -n 20000
echo "kernel $(uname -r) is up after $(cut -d' ' -f1 /proc/uptime) s"
echo "NETFLUME-DOCTOR"
netflume doctor
echo "NETFLUME-TESTS"
# Words without spaces.
kernel-tests $(cat /kernel-tests.arguments)
echo "NETFLUME-EXIT $?"
dmesg | grep -E 'BUG:|WARNING:|Oops|Call Trace|Out of memory' | tail -20
poweroff -f
