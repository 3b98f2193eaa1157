#!/bin/sh
# The first process of a guest: runs in the host's own files, which it sees read only, the command
# that the host left in the folder for results.
mkdir -p /proc /host
mount -t proc proc /proc
mount -t devtmpfs dev /dev
for module in /modules/*; do insmod "$module"; done
mount -t 9p -o trans=virtio,version=9p2000.L,cache=loose,msize=262144,ro host /host
mount -t proc proc /host/proc
mount -t sysfs sysfs /host/sys
mount -t devtmpfs dev /host/dev
mkdir -p /host/dev/pts /host/dev/shm
mount -t devpts devpts /host/dev/pts
for folder in dev/shm run tmp; do mount -t tmpfs tmpfs /host/$folder; done
chmod 1777 /host/tmp /host/dev/shm
mount -t tracefs tracefs /host/sys/kernel/tracing
mount -t bpf bpf /host/sys/fs/bpf
groups=/host/sys/fs/cgroup
# Version 2, version 1, or 1 with 2 beside it, as systemd has them.
version_1() {
	mount -t tmpfs cgroup $groups
	mkdir $groups/memory $groups/cpu
	mount -t cgroup -o memory memory $groups/memory
	mount -t cgroup -o cpu cpu $groups/cpu
}
case " $(cat /proc/cmdline) " in
*" cgroups=1 "*) version_1 ;;
*" cgroups=hybrid "*)
	version_1
	mkdir $groups/unified
	mount -t cgroup2 unified $groups/unified
	;;
*) mount -t cgroup2 cgroup $groups ;;
esac
mount -t securityfs securityfs /host/sys/kernel/security
mkdir -p /host/run/results
mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144 results /host/run/results
ip link set lo up
chroot /host /bin/sh /run/results/command >/host/run/results/output 2>/host/run/results/log
echo $? >/host/run/results/status
umount /host/run/results
poweroff -f
