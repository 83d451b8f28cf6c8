#!/bin/bash
# setup.sh DIR: unpacks QEMU, a Debian cloud kernel and a static busybox into DIR. Installs nothing and leaves the
# machine's apt configuration alone. Needs apt, dpkg and ldd on Debian 12.
set -euo pipefail
dir=$(mkdir -p "$1" && cd "$1" && pwd)
mkdir -p "$dir"/{debs,root,kernel,apt/lists/partial,apt/archives/partial}

mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -v security | head -n 1)
key=/usr/share/keyrings/debian-archive-keyring.gpg
for suite in bookworm bookworm-updates bookworm-backports; do
  echo "deb [signed-by=$key] ${mirror%/} $suite main"
done > "$dir/apt/sources.list"
apt=(-q -o Dir::Etc::sourcelist="$dir/apt/sources.list" -o Dir::Etc::sourceparts=/nonexistent
  -o Dir::State::lists="$dir/apt/lists" -o Dir::Cache="$dir/apt" -o APT::Sandbox::User=root -o Acquire::Languages=none)
apt-get "${apt[@]}" update

cd "$dir/debs"
# QEMU 7.2 of Debian 12 itself does not intercept XSETBV; the version of backports does.
mapfile -t packages < <(apt-get "${apt[@]}" install -s --no-install-recommends -t bookworm-backports qemu-system-x86 |
  awk '/^Inst/ {print $2}')
apt-get "${apt[@]}" download -t bookworm-backports "${packages[@]}"
apt-get "${apt[@]}" download busybox-static libnl-3-200 libnl-route-3-200
for deb in *.deb; do dpkg -x "$deb" "$dir/root"; done
kernel=$(apt-cache "${apt[@]}" show --no-all-versions linux-image-cloud-amd64 |
  sed -n 's/^Depends: \(linux-image-[^ ,]*\).*/\1/p')
apt-get "${apt[@]}" download "$kernel"
dpkg -x "$kernel"_*.deb "$dir/kernel"

# Libraries of /lib and of /usr/lib in one place.
cp -n "$dir"/root/lib/x86_64-linux-gnu/* "$dir/root/usr/lib/x86_64-linux-gnu/" 2>/dev/null || true
LD_LIBRARY_PATH=$dir/root/usr/lib/x86_64-linux-gnu "$dir/root/usr/bin/qemu-system-x86_64" --version | head -n 1
