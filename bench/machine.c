// What the machine can do, on one thread and on two: read memory (the bound of
// decode) and multiply and add with AVX2 (the bound of prefill).
//
//	cc -O2 -mavx2 -mfma -pthread bench/machine.c -o machine && ./machine
#include <immintrin.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double seconds(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + 1e-9 * t.tv_nsec;
}

struct part { char *from; size_t bytes; float result; };

static void *read_memory(void *argument) {
	struct part *p = argument;
	__m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;
	for (__m256i *v = (void *)p->from, *end = (void *)(p->from + p->bytes); v < end; v += 4) {
		a = _mm256_xor_si256(a, v[0]);
		b = _mm256_xor_si256(b, v[1]);
		c = _mm256_xor_si256(c, v[2]);
		d = _mm256_xor_si256(d, v[3]);
	}
	p->result = _mm256_extract_epi32(_mm256_xor_si256(_mm256_xor_si256(a, b), _mm256_xor_si256(c, d)), 0);
	return 0;
}

enum { ROUNDS = 30 * 1000 * 1000 };

static void *multiply_add(void *argument) {
	struct part *p = argument;
	__m256 x = _mm256_set1_ps(0.999999f), y = _mm256_set1_ps(1e-9f);
	// Ten sums: two a cycle take four or five. They begin differently, or the compiler makes one of them.
	__m256 a = _mm256_set1_ps(1), b = a + a, c = a + b, d = a + c, e = a + d, f = a + e, g = a + f, h = a + g, i = a + h, j = a + i;
	for (int n = 0; n < ROUNDS; n++) {
		a = _mm256_fmadd_ps(a, x, y); b = _mm256_fmadd_ps(b, x, y); c = _mm256_fmadd_ps(c, x, y); d = _mm256_fmadd_ps(d, x, y);
		e = _mm256_fmadd_ps(e, x, y); f = _mm256_fmadd_ps(f, x, y); g = _mm256_fmadd_ps(g, x, y); h = _mm256_fmadd_ps(h, x, y);
		i = _mm256_fmadd_ps(i, x, y); j = _mm256_fmadd_ps(j, x, y);
	}
	a = a + b + c + d + e + f + g + h + i + j;
	p->result = _mm256_cvtss_f32(a);
	return 0;
}

// best returns the highest rate of five runs on the given number of threads.
static double best(void *(*work)(void *), int threads, char *memory, size_t bytes, double amount) {
	double rate = 0;
	for (int run = 0; run < 5; run++) {
		struct part parts[2];
		pthread_t thread[2];
		double start = seconds();
		for (int i = 0; i < threads; i++) {
			parts[i] = (struct part){memory + i * (bytes / threads), bytes / threads, 0};
			pthread_create(&thread[i], 0, work, &parts[i]);
		}
		for (int i = 0; i < threads; i++) pthread_join(thread[i], 0);
		double r = amount / (seconds() - start) / 1e9;
		if (r > rate) rate = r;
	}
	return rate;
}

int main(void) {
	size_t bytes = 1 << 30;
	char *memory = aligned_alloc(4096, bytes);
	memset(memory, 1, bytes);
	for (int threads = 1; threads <= 2; threads++)
		printf("%d threads: reads %.1f GB/s, multiplies and adds %.0f GFLOP/s\n", threads,
			best(read_memory, threads, memory, bytes, bytes), best(multiply_add, threads, memory, bytes, 160.0 * ROUNDS * threads));
}
