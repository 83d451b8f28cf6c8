# Two busy processes against one: 2 is twice the work. A loop of awk's makes no system calls.
work() { awk 'BEGIN { for (i = 0; i < 20000000; i++) x += i }'; }
span() { local start=$EPOCHREALTIME; "$@"; local end=$EPOCHREALTIME; echo $((${end/./} - ${start/./})); }
both() { work & work & wait; }
work
one=$(span work)
two=$(span both)
echo "work of two busy processes|$(awk "BEGIN { print 2 * $one / $two }")|times one's"
