/*
 * pingpong: two processes that send SIZE bytes to and fro; the bystander of benchmarks.
 *
 *   pingpong tcp|udp|unix ROUNDS|SECONDSs SIZE [options]
 *
 *   ROUNDS or SECONDS   "20000" is 20000 rounds, "5s" or "0.5s" a time
 *   --same-cpu          server on CPU 0 too (default: client on CPU 0, server on CPU 1)
 *   --busy              both poll with MSG_DONTWAIT instead of sleeping in recv
 *   --warmup N          rounds before the measurement (default 0)
 *   --start-on-stdin    wait for a line on stdin before the first round
 *   --max-seconds N     SIGALRM ends the program after N s (default 120, or SECONDS + 60)
 *
 * Always prints "ready PID SERVERPID PORT" first (PORT 0 for unix, which is a stream
 * socketpair). One round is one send by each side. On a machine with one CPU both use
 * CPU 0, see "server_cpu".
 *
 * Output: one line of JSON. The times are those of whole rounds; "failed" are rounds whose
 * send failed, "lost" those without an answer within 5 s; neither is in the times.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FINE (1u << 21)   /* buckets of 1 ns up to about 2 ms, */
#define COARSE (1u << 22) /* then of 1 µs up to about 4 s */
#define ANSWER_SECONDS 5

enum kind { TCP, UDP, UNIX };

static enum kind kind;
static size_t size;
static bool busy;
static char *buffer;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void usage(const char *why)
{
	fprintf(stderr,
		"pingpong: %s\nusage: pingpong tcp|udp|unix ROUNDS|SECONDSs SIZE [--same-cpu] [--busy] "
		"[--warmup N] [--start-on-stdin] [--max-seconds N]\n",
		why);
	exit(2);
}

static uint64_t number(const char *text, uint64_t max, const char *name)
{
	char *end;

	errno = 0;
	unsigned long long value = strtoull(text, &end, 10);
	if (errno || *text < '0' || *text > '9' || *end || value > max)
		usage(name);
	return value;
}

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec t;

	if (clock_gettime(clock, &t))
		die("clock_gettime");
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static bool pin(int cpu)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(cpu, &cpus);
	if (!sched_setaffinity(0, sizeof(cpus), &cpus))
		return true;
	if (errno != EINVAL)
		die("sched_setaffinity");
	return false;
}

/* One message; false when the stream ended or, with errno EAGAIN, when it took too long. */
static bool receive(int fd)
{
	uint64_t until = 0;

	for (size_t got = 0; got < size;) {
		ssize_t n = recv(fd, buffer + got, size - got, busy ? MSG_DONTWAIT : 0);

		if (n > 0 && kind == UDP)
			return true;
		if (n > 0) {
			got += (size_t)n;
			continue;
		}
		if (n == 0) {
			errno = 0;
			return false;
		}
		/* ECONNREFUSED answers an earlier datagram */
		if (errno == EINTR || (errno == ECONNREFUSED && kind == UDP))
			continue;
		if (errno == EAGAIN && busy) {
			uint64_t now = clock_ns(CLOCK_MONOTONIC);

			until = until ? until : now + ANSWER_SECONDS * 1000000000ull;
			if (now < until)
				continue;
			errno = EAGAIN;
		}
		if (errno != EAGAIN && errno != ECONNRESET)
			die("recv");
		return false;
	}
	return true;
}

static bool send_all(int fd)
{
	for (size_t sent = 0; sent < size;) {
		ssize_t n = send(fd, buffer + sent, size - sent, 0);

		if (n < 0 && errno == EINTR && sent)
			continue;
		if (n < 0)
			return false;
		sent += (size_t)n;
	}
	return true;
}

static _Noreturn void serve(int fd, unsigned seconds)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	alarm(seconds);
	close(STDIN_FILENO);
	close(STDOUT_FILENO);
	if (kind == TCP) {
		int on = 1, listener = fd;

		fd = accept(listener, NULL, NULL);
		if (fd < 0)
			die("server: accept");
		close(listener);
		if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)))
			die("server: TCP_NODELAY");
	}
	for (;;) {
		if (receive(fd))
			send_all(fd);
		else if (errno != EAGAIN)
			_exit(0);
	}
}

static int inet_socket(struct sockaddr_in *name)
{
	int fd = socket(AF_INET, (kind == TCP ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(*name);

	if (fd < 0)
		die("socket");
	memset(name, 0, sizeof(*name));
	name->sin_family = AF_INET;
	name->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (bind(fd, (struct sockaddr *)name, len))
		die("bind");
	if (getsockname(fd, (struct sockaddr *)name, &len))
		die("getsockname");
	return fd;
}

/* The value at a rank (from 1), from buckets; coarse ones give their lower edge. */
static uint64_t at_rank(const uint32_t *fine, const uint32_t *coarse, uint64_t rank)
{
	for (uint64_t i = 0; i < FINE; i++) {
		if (fine[i] >= rank)
			return i;
		rank -= fine[i];
	}
	for (uint64_t i = 0; i < COARSE; i++) {
		if (coarse[i] >= rank)
			return i * 1000;
		rank -= coarse[i];
	}
	return COARSE * 1000ull;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "same-cpu", no_argument, NULL, 'c' },
		{ "busy", no_argument, NULL, 'b' },
		{ "warmup", required_argument, NULL, 'w' },
		{ "start-on-stdin", no_argument, NULL, 's' },
		{ "max-seconds", required_argument, NULL, 'm' },
		{ 0 },
	};
	static const char *const kinds[] = { "tcp", "udp", "unix" };
	bool wait_for_start = false, same_cpu = false;
	uint64_t warmup = 0, rounds_wanted = UINT64_MAX;
	unsigned max_seconds = 0, which = 0;
	double seconds = 0;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'c':
			same_cpu = true;
			break;
		case 'b':
			busy = true;
			break;
		case 'w':
			warmup = number(optarg, UINT32_MAX, "--warmup is a number");
			break;
		case 's':
			wait_for_start = true;
			break;
		case 'm':
			max_seconds = (unsigned)number(optarg, UINT_MAX, "--max-seconds is a number");
			break;
		default:
			usage("unknown option");
		}
	}
	if (argc - optind != 3)
		usage("three arguments are needed");
	while (which < 3 && strcmp(argv[optind], kinds[which]))
		which++;
	if (which == 3)
		usage("the first argument is tcp, udp or unix");
	kind = (enum kind)which;
	const char *amount = argv[optind + 1];
	if (*amount && amount[strlen(amount) - 1] == 's') {
		char *end;

		seconds = strtod(amount, &end);
		if (end == amount || strcmp(end, "s") || !(seconds > 0 && seconds <= 1e6))
			usage("SECONDS is like 5s or 0.5s");
	} else {
		rounds_wanted = number(amount, UINT32_MAX, "ROUNDS is a number");
	}
	size = number(argv[optind + 2], 65507, "SIZE is 1 to 65507");
	if (!size)
		usage("SIZE is 1 to 65507");
	if (busy && same_cpu)
		usage("--busy needs two CPUs");
	if (!max_seconds)
		max_seconds = seconds > 0 ? (unsigned)seconds + 60 : 120;
	alarm(max_seconds);
	signal(SIGPIPE, SIG_IGN);

	uint32_t *fine = calloc(FINE, sizeof(*fine)), *coarse = calloc(COARSE, sizeof(*coarse));
	buffer = malloc(size);
	if (!fine || !coarse || !buffer)
		die("malloc");
	memset(buffer, 'x', size);

	struct sockaddr_in server_name = { 0 }, client_name = { 0 };
	int server, client, pair[2];
	if (kind == UNIX) {
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
			die("socketpair");
		client = pair[0];
		server = pair[1];
	} else {
		server = inet_socket(&server_name);
		client = inet_socket(&client_name);
		if (kind == TCP && listen(server, 1))
			die("listen");
		if (kind == UDP && connect(server, (struct sockaddr *)&client_name, sizeof(client_name)))
			die("connect");
	}
	int server_cpu = same_cpu || !pin(1) ? 0 : 1;
	if (busy && !server_cpu)
		usage("--busy needs two CPUs");
	if (!server_cpu)
		pin(0);
	pid_t child = fork(); /* which inherits the CPU */
	if (child < 0)
		die("fork");
	if (!child) {
		close(client);
		serve(server, max_seconds);
	}
	close(server);
	if (!pin(0)) {
		fprintf(stderr, "pingpong: CPU 0 is not for us\n");
		return 1;
	}
	if (kind != UNIX && connect(client, (struct sockaddr *)&server_name, sizeof(server_name)))
		die("connect");
	int on = 1;
	if (kind == TCP && setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)))
		die("TCP_NODELAY");
	struct timeval limit = { .tv_sec = ANSWER_SECONDS };
	if (setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)))
		die("SO_RCVTIMEO");

	printf("ready %d %d %u\n", (int)getpid(), (int)child, ntohs(server_name.sin_port));
	fflush(stdout);
	if (wait_for_start) {
		char line[64];

		if (!fgets(line, sizeof(line), stdin)) {
			fprintf(stderr, "pingpong: stdin ended before a line came\n");
			return 1;
		}
	}

	uint64_t rounds = 0, failed = 0, lost = 0, sum = 0, longest = 0, shortest = UINT64_MAX;
	for (uint64_t i = 0; i < warmup; i++)
		if (!send_all(client) || !receive(client))
			die("warm-up");
	uint64_t cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID), wall = clock_ns(CLOCK_MONOTONIC);
	uint64_t until = seconds > 0 ? wall + (uint64_t)(seconds * 1e9) : UINT64_MAX, now = wall;
	while (rounds + failed + lost < rounds_wanted && now < until) {
		uint64_t start = clock_ns(CLOCK_MONOTONIC);
		bool sent = send_all(client), answered = sent && receive(client);
		int error = errno;

		now = clock_ns(CLOCK_MONOTONIC);
		if (!answered) {
			failed += !sent;
			lost += sent;
			if (kind != UDP && (sent ? error != EAGAIN : error == EPIPE)) {
				fprintf(stderr, "pingpong: the connection ended\n");
				return 1;
			}
			continue;
		}
		uint64_t took = now - start;
		rounds++;
		sum += took;
		longest = took > longest ? took : longest;
		shortest = took < shortest ? took : shortest;
		if (took < FINE)
			fine[took]++;
		else
			coarse[took / 1000 < COARSE ? took / 1000 : COARSE - 1]++;
	}
	wall = clock_ns(CLOCK_MONOTONIC) - wall;
	cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;

	struct rusage server_use;
	int status;
	close(client);
	kill(child, SIGKILL);
	while (wait4(child, &status, 0, &server_use) < 0)
		if (errno != EINTR)
			die("wait4");
	if (WIFEXITED(status) && WEXITSTATUS(status)) {
		fprintf(stderr, "pingpong: the server failed\n");
		return 1;
	}
	uint64_t server_cpu_ns = (uint64_t)(server_use.ru_utime.tv_sec + server_use.ru_stime.tv_sec) * 1000000000u +
				 (uint64_t)(server_use.ru_utime.tv_usec + server_use.ru_stime.tv_usec) * 1000u;
	printf("{\"program\":\"pingpong\",\"pid\":%d,\"server_pid\":%d,\"kind\":\"%s\",\"size\":%zu"
	       ",\"busy\":%s,\"client_cpu\":0,\"server_cpu\":%d,\"client_port\":%u,\"server_port\":%u"
	       ",\"rounds\":%" PRIu64 ",\"failed\":%" PRIu64 ",\"lost\":%" PRIu64 ",\"min_ns\":%" PRIu64
	       ",\"p50_ns\":%" PRIu64 ",\"p90_ns\":%" PRIu64 ",\"p99_ns\":%" PRIu64 ",\"max_ns\":%" PRIu64
	       ",\"mean_ns\":%.1f,\"wall_ns\":%" PRIu64 ",\"cpu_ns\":%" PRIu64 ",\"server_cpu_ns\":%" PRIu64
	       "}\n",
	       (int)getpid(), (int)child, kinds[which], size, busy ? "true" : "false", server_cpu,
	       ntohs(client_name.sin_port), ntohs(server_name.sin_port), rounds, failed, lost,
	       rounds ? shortest : 0, rounds ? at_rank(fine, coarse, (rounds + 1) / 2) : 0,
	       rounds ? at_rank(fine, coarse, (rounds * 90 + 99) / 100) : 0,
	       rounds ? at_rank(fine, coarse, (rounds * 99 + 99) / 100) : 0, longest,
	       rounds ? (double)sum / (double)rounds : 0.0, wall, cpu, server_cpu_ns);
	if (fflush(stdout))
		die("stdout");
	return 0;
}
