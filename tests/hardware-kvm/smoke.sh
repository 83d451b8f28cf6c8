# Runs in the emulated machine: the self-test of the hypervisor, and the bundle at /bundle.
set -e
runsc platforms
cd /bundle
runsc --debug-log /tmp/debug.log run smoke || { status=$?; cat /tmp/debug.log; exit "$status"; }
[ -z "$(runsc list -q)" ]
