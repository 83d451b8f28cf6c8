mkdir m; cd m; for i in $(seq 1 20); do echo "#include <stdio.h>
#include <pthread.h>
static void *f(void *p) { long s = 0; for (long i = 0; i < 100000; i++) s += i % $i; *(long *)p = s; return 0; }
long run$i(void) { pthread_t t[4]; long r[4], s = 0; for (int i = 0; i < 4; i++) pthread_create(t + i, 0, f, r + i); for (int i = 0; i < 4; i++) { pthread_join(t[i], 0); s += r[i]; } return s; }" > f$i.c; done
(echo "#include <stdio.h>"; for i in $(seq 1 20); do echo "long run$i(void);"; done; echo "int main(void) {"; for i in $(seq 1 20); do echo "printf(\"%ld\\n\", run$i());"; done; echo "return 0; }") > main.c
printf 'OBJ = $(patsubst %%.c,%%.o,$(wildcard *.c))\nprog: $(OBJ)\n\tgcc -pthread -o $@ $^\n%%.o: %%.c\n\tgcc -O2 -g -c -o $@ $<\n' > Makefile
make -s -j4 && ./prog | md5sum; make -j4 | sed 's/.*: //'; touch f3.c; make -j4 | wc -l; cd ..; rm -r m
