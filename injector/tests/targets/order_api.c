/*
 * order_api: the case that started it. Sends over one TCP connection to its own receiver
 * and counts the SIGUSR2 that reach it. Tests copy the binary to a file "order-api", which
 * is then its comm, and start it with and without env=gray.
 *
 *   order_api COUNT SIZE GAP_US [options]
 *
 *   COUNT    sends; SIZE bytes of each; GAP_US µs of sleep after each
 *   --forever           go on after COUNT until SIGTERM or SIGINT
 *   --start-on-stdin    print "ready PID PORT", wait for a line on stdin, then send
 *   --times             add "times_ns", the wall time of each send, to the output
 *   --max-seconds N     SIGALRM ends the program after N s (default 120)
 *
 * The receiver is another process, named "receiver", which only reads. PORT is its port.
 * SIGTERM and SIGINT end the loop early, and the output is still printed.
 *
 * Output: one line of JSON. "signalled" lists the indices of the sends that had SIGUSR2
 * delivered by the time they returned, "signalled_late" those after which it came later,
 * in the gap or before the exit (-1: before the first send). Pending signals of one kind
 * merge: "sigusr2" counts deliveries. --forever keeps the first 4 million times.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ERRNO_MAX 4096
#define TIMES_MAX (4u << 20)

static volatile sig_atomic_t usr2_count, stop;

struct indices {
	int64_t *at;
	size_t len, room;
};

static void on_usr2(int signal)
{
	(void)signal;
	usr2_count++;
}

static void on_stop(int signal)
{
	(void)signal;
	stop = 1;
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void usage(const char *why)
{
	fprintf(stderr,
		"order_api: %s\nusage: order_api COUNT SIZE GAP_US [--forever] [--start-on-stdin] "
		"[--times] [--max-seconds N]\n",
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

/* Sleeps the whole time even if SIGUSR2 comes; a stop ends it. */
static void sleep_us(uint64_t us)
{
	struct timespec t = { .tv_sec = (time_t)(us / 1000000), .tv_nsec = (long)(us % 1000000) * 1000 };

	while (!stop && nanosleep(&t, &t) && errno == EINTR)
		;
}

static void handle(int signal, void (*handler)(int))
{
	struct sigaction action = { .sa_handler = handler, .sa_flags = SA_RESTART };

	if (sigaction(signal, &action, NULL))
		die("sigaction");
}

static void note(struct indices *list, int64_t index)
{
	if (list->len == list->room) {
		list->room = list->room ? list->room * 2 : 64;
		list->at = realloc(list->at, list->room * sizeof(*list->at));
		if (!list->at)
			die("realloc");
	}
	list->at[list->len++] = index;
}

static void print_indices(const char *name, const struct indices *list)
{
	printf(",\"%s\":[", name);
	for (size_t i = 0; i < list->len; i++)
		printf("%s%" PRId64, i ? "," : "", list->at[i]);
	printf("]");
}

static int ascending(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static uint64_t percentile(const uint64_t *sorted, size_t n, unsigned percent)
{
	return n ? sorted[(n * percent + 99) / 100 - 1] : 0;
}

/* The receiving process: reads until the stream ends. Never sends. `control` is closed
 * when the sender ends before it connected. */
static _Noreturn void receive(int listener, int control, unsigned seconds, uint64_t *bytes)
{
	static char buffer[1 << 18];
	struct pollfd wait[2] = { { listener, POLLIN, 0 }, { control, 0, 0 } };
	ssize_t n;

	prctl(PR_SET_NAME, "receiver");
	signal(SIGINT, SIG_IGN);
	alarm(seconds);
	close(STDIN_FILENO);
	close(STDOUT_FILENO);
	while (poll(wait, 2, -1) < 0)
		if (errno != EINTR)
			die("receiver: poll");
	if (!(wait[0].revents & POLLIN))
		_exit(0);
	int fd = accept(listener, NULL, NULL);
	if (fd < 0)
		die("receiver: accept");
	close(listener);
	while ((n = recv(fd, buffer, sizeof(buffer), 0)) != 0) {
		if (n < 0 && errno == ECONNRESET)
			break;
		if (n < 0 && errno != EINTR)
			die("receiver: recv");
		*bytes += n > 0 ? (uint64_t)n : 0;
	}
	_exit(0);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "forever", no_argument, NULL, 'f' },
		{ "start-on-stdin", no_argument, NULL, 's' },
		{ "times", no_argument, NULL, 't' },
		{ "max-seconds", required_argument, NULL, 'm' },
		{ 0 },
	};
	static uint64_t errnos[ERRNO_MAX];
	bool forever = false, wait_for_start = false, print_times = false;
	unsigned max_seconds = 120;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'f':
			forever = true;
			break;
		case 's':
			wait_for_start = true;
			break;
		case 't':
			print_times = true;
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
	const uint64_t count = number(argv[optind], TIMES_MAX, "COUNT is a number up to 4194304");
	const size_t size = number(argv[optind + 1], 1 << 30, "SIZE is a number");
	const uint64_t gap_us = number(argv[optind + 2], 1000000000, "GAP_US is a number");
	if (!size)
		usage("SIZE is at least 1");
	alarm(max_seconds);

	uint64_t *received = mmap(NULL, sizeof(*received), PROT_READ | PROT_WRITE,
				  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (received == MAP_FAILED)
		die("mmap");
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr_in from;
	socklen_t len = sizeof(to);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), control[2];
	if (listener < 0)
		die("socket");
	if (bind(listener, (struct sockaddr *)&to, len) || listen(listener, 1))
		die("bind and listen");
	if (getsockname(listener, (struct sockaddr *)&to, &len))
		die("getsockname");
	if (pipe2(control, O_CLOEXEC))
		die("pipe2");
	pid_t child = fork();
	if (child < 0)
		die("fork");
	if (!child) {
		close(control[1]);
		receive(listener, control[0], max_seconds, received);
	}
	close(control[0]);
	close(listener);

	handle(SIGUSR2, on_usr2);
	signal(SIGPIPE, SIG_IGN);
	int on = 1, sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (sock < 0)
		die("socket");
	if (connect(sock, (struct sockaddr *)&to, sizeof(to)))
		die("connect");
	if (setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)))
		die("TCP_NODELAY");
	len = sizeof(from);
	if (getsockname(sock, (struct sockaddr *)&from, &len))
		die("getsockname");
	char *data = malloc(size);
	size_t room = forever ? TIMES_MAX : count;
	uint64_t *times = calloc(room + 1, sizeof(*times));
	if (!data || !times)
		die("malloc");
	memset(data, 'x', size);

	if (wait_for_start) {
		char line[64];

		printf("ready %d %u\n", (int)getpid(), ntohs(to.sin_port));
		fflush(stdout);
		if (!fgets(line, sizeof(line), stdin)) {
			fprintf(stderr, "order_api: stdin ended before a line came\n");
			return 1;
		}
	}
	handle(SIGTERM, on_stop);
	handle(SIGINT, on_stop);

	struct indices signalled = { 0 }, late = { 0 };
	uint64_t sends = 0, ok = 0, shorts = 0, failed = 0, bytes = 0, sum = 0, longest = 0;
	sig_atomic_t seen = 0;
	uint64_t cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID), wall = clock_ns(CLOCK_MONOTONIC);
	while (!stop && (forever || sends < count)) {
		if (usr2_count != seen) {
			seen = usr2_count;
			note(&late, (int64_t)sends - 1);
		}
		uint64_t start = clock_ns(CLOCK_MONOTONIC);
		ssize_t result = send(sock, data, size, 0);
		int error = errno;
		uint64_t took = clock_ns(CLOCK_MONOTONIC) - start;
		if (usr2_count != seen) {
			seen = usr2_count;
			note(&signalled, (int64_t)sends);
		}
		if (sends < room)
			times[sends] = took;
		sum += took;
		longest = took > longest ? took : longest;
		sends++;
		if (result < 0) {
			failed++;
			errnos[error < ERRNO_MAX ? error : 0]++;
		} else {
			ok++;
			bytes += (uint64_t)result;
			shorts += (size_t)result < size;
		}
		if (gap_us)
			sleep_us(gap_us);
	}
	wall = clock_ns(CLOCK_MONOTONIC) - wall;
	cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;

	close(sock);
	close(control[1]);
	int status;
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			die("waitpid");
	if (!WIFEXITED(status) || WEXITSTATUS(status)) {
		fprintf(stderr, "order_api: the receiver failed (status %#x)\n", (unsigned)status);
		return 1;
	}
	if (usr2_count != seen)
		note(&late, (int64_t)sends - 1);

	char comm[17] = "";
	if (prctl(PR_GET_NAME, comm))
		die("PR_GET_NAME");
	size_t timed = sends < room ? sends : room;
	uint64_t *sorted = malloc((timed + 1) * sizeof(*sorted));
	if (!sorted)
		die("malloc");
	memcpy(sorted, times, timed * sizeof(*sorted));
	qsort(sorted, timed, sizeof(*sorted), ascending);
	printf("{\"program\":\"order_api\",\"pid\":%d,\"receiver_pid\":%d,\"comm\":\"%s\",\"size\":%zu"
	       ",\"sends\":%" PRIu64 ",\"ok\":%" PRIu64 ",\"short\":%" PRIu64 ",\"failed\":%" PRIu64
	       ",\"errnos\":{",
	       (int)getpid(), (int)child, comm, size, sends, ok, shorts, failed);
	const char *comma = "";
	for (int e = 0; e < ERRNO_MAX; e++) {
		const char *name = strerrorname_np(e);

		if (!errnos[e])
			continue;
		if (name)
			printf("%s\"%s\":%" PRIu64, comma, name, errnos[e]);
		else
			printf("%s\"%d\":%" PRIu64, comma, e, errnos[e]);
		comma = ",";
	}
	printf("},\"bytes\":%" PRIu64 ",\"received_bytes\":%" PRIu64 ",\"sigusr2\":%d", bytes, *received,
	       (int)usr2_count);
	print_indices("signalled", &signalled);
	print_indices("signalled_late", &late);
	printf(",\"local_port\":%u,\"peer_port\":%u,\"p50_ns\":%" PRIu64 ",\"p90_ns\":%" PRIu64
	       ",\"p99_ns\":%" PRIu64 ",\"max_ns\":%" PRIu64 ",\"sum_ns\":%" PRIu64 ",\"wall_ns\":%" PRIu64
	       ",\"cpu_ns\":%" PRIu64,
	       ntohs(from.sin_port), ntohs(to.sin_port), percentile(sorted, timed, 50),
	       percentile(sorted, timed, 90), percentile(sorted, timed, 99), longest, sum, wall, cpu);
	if (print_times) {
		printf(",\"times_ns\":[");
		for (size_t i = 0; i < timed; i++)
			printf("%s%" PRIu64, i ? "," : "", times[i]);
		printf("]");
	}
	printf("}\n");
	if (fflush(stdout))
		die("stdout");
	return 0;
}
