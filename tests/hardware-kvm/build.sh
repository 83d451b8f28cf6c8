#!/bin/bash
# build.sh: builds a static runsc for machines without libraries; prints its path.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}/static
triple=x86_64-unknown-linux-gnu
RUSTFLAGS='-C target-feature=+crt-static' CARGO_TARGET_DIR=$target \
  cargo build --quiet --release --manifest-path "$root/Cargo.toml" -p runsc --target "$triple"
echo "$target/$triple/release/runsc"
