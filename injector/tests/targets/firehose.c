/*
 * firehose: as many sends as possible from several threads, for ring buffer overflow and
 * events per second.
 *
 *   firehose udp|unix SECONDS THREADS [options]
 *
 *   --size N            bytes of each send (default 1). udp with 65536 and more fails at
 *                       once with EMSGSIZE inside the kernel's udp send function: the
 *                       most calls per second
 *   --batch N           sendmmsg with N messages instead of send
 *   --rate N            sends per second of all threads together (default: no limit)
 *   --reader            a process, named "receiver", reads what is sent
 *   --start-on-stdin    print "ready PID PORT", wait for a line on stdin, then send
 *   --max-seconds N     SIGALRM ends the program after N s (default SECONDS + 60)
 *
 * SECONDS may be a fraction. Each thread has a connected socket of its own; all send to
 * one socket. Without --reader nobody reads: UDP datagrams are dropped by the full
 * receive buffer and the sends succeed; unix datagrams use MSG_DONTWAIT and most fail
 * with EAGAIN. Errors never end the run. SIGTERM and SIGINT end it early.
 *
 * Output: one line of JSON. "sends" counts messages handed to the kernel, ok + failed;
 * "errnos" has LOST for messages that made sendmmsg stop in mid-batch without saying why.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ERRNO_MAX 4096
#define LOST 0
#define THREADS_MAX 256

struct thread {
	pthread_t id;
	int sock;
	uint64_t calls, ok, failed;
	uint64_t errnos[ERRNO_MAX];
};

static size_t size = 1;
static unsigned batch;
static uint64_t interval_ns; /* between the calls of one thread; 0: none */
static int flags;
static atomic_bool stop;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void usage(const char *why)
{
	fprintf(stderr,
		"firehose: %s\nusage: firehose udp|unix SECONDS THREADS [--size N] [--batch N] [--rate N] "
		"[--reader] [--start-on-stdin] [--max-seconds N]\n",
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

static void *spray(void *arg)
{
	struct thread *t = arg;
	char *data = calloc(1, size);
	struct mmsghdr *messages = calloc(batch + 1, sizeof(*messages));
	struct iovec iov = { data, size };
	uint64_t next = clock_ns(CLOCK_MONOTONIC);

	if (!data || !messages)
		die("calloc");
	for (unsigned i = 0; i < batch; i++)
		messages[i].msg_hdr = (struct msghdr){ .msg_iov = &iov, .msg_iovlen = 1 };
	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		if (interval_ns) {
			if (clock_ns(CLOCK_MONOTONIC) < next)
				continue;
			next += interval_ns;
		}
		int done = batch ? sendmmsg(t->sock, messages, batch, flags) :
				   (send(t->sock, data, size, flags) < 0 ? -1 : 1);
		t->calls++;
		if (done < 0) {
			t->failed++;
			t->errnos[errno < ERRNO_MAX ? errno : LOST]++;
		} else {
			t->ok += (unsigned)done;
			if (batch && (unsigned)done < batch) {
				t->failed++;
				t->errnos[LOST]++;
			}
		}
	}
	free(messages);
	free(data);
	return NULL;
}

/* The reading process. Ends when `control` is closed. Never sends. */
static _Noreturn void receive(int fd, int control, unsigned seconds, uint64_t *received)
{
	static char buffers[64][64];
	static struct mmsghdr messages[64];
	static struct iovec iov[64];

	prctl(PR_SET_NAME, "receiver");
	signal(SIGINT, SIG_IGN);
	alarm(seconds);
	close(STDIN_FILENO);
	close(STDOUT_FILENO);
	for (int i = 0; i < 64; i++) {
		iov[i] = (struct iovec){ buffers[i], sizeof(buffers[i]) };
		messages[i].msg_hdr = (struct msghdr){ .msg_iov = &iov[i], .msg_iovlen = 1 };
	}
	for (bool closing = false;;) {
		struct pollfd wait[2] = { { fd, POLLIN, 0 }, { control, 0, 0 } };
		int n;

		if (poll(wait, 2, -1) < 0 && errno != EINTR)
			die("receiver: poll");
		closing = wait[1].revents;
		while ((n = recvmmsg(fd, messages, 64, MSG_DONTWAIT, NULL)) > 0)
			*received += (unsigned)n;
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			die("receiver: recvmmsg");
		if (closing)
			_exit(0);
	}
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "size", required_argument, NULL, 'z' },
		{ "batch", required_argument, NULL, 'b' },
		{ "rate", required_argument, NULL, 'r' },
		{ "reader", no_argument, NULL, 'R' },
		{ "start-on-stdin", no_argument, NULL, 's' },
		{ "max-seconds", required_argument, NULL, 'm' },
		{ 0 },
	};
	static uint64_t errnos[ERRNO_MAX];
	bool wait_for_start = false, reader = false;
	unsigned max_seconds = 0;
	uint64_t rate = 0;
	char *end;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'z':
			size = number(optarg, 1 << 20, "--size is 1 to 1048576");
			break;
		case 'b':
			batch = (unsigned)number(optarg, 1024, "--batch is up to 1024");
			break;
		case 'r':
			rate = number(optarg, 1000000000, "--rate is a number");
			break;
		case 'R':
			reader = true;
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
	const bool udp = !strcmp(argv[optind], "udp");
	if (!udp && strcmp(argv[optind], "unix"))
		usage("the first argument is udp or unix");
	double seconds = strtod(argv[optind + 1], &end);
	if (end == argv[optind + 1] || *end || !(seconds > 0 && seconds <= 1e6))
		usage("SECONDS is a positive number");
	const unsigned n = (unsigned)number(argv[optind + 2], THREADS_MAX, "THREADS is 1 to 256");
	if (!n || !size)
		usage("THREADS is 1 to 256, --size at least 1");
	if (!max_seconds)
		max_seconds = (unsigned)seconds + 60;
	alarm(max_seconds);
	if (rate)
		interval_ns = (uint64_t)(1e9 * n * (batch ? batch : 1) / (double)rate);
	flags = udp || reader ? 0 : MSG_DONTWAIT;

	union {
		struct sockaddr any;
		struct sockaddr_in in;
		struct sockaddr_un un;
	} to = { .any.sa_family = udp ? AF_INET : AF_UNIX };
	socklen_t len = udp ? sizeof(to.in) : sizeof(sa_family_t);
	int sink = socket(to.any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (sink < 0)
		die("socket");
	if (udp)
		to.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (bind(sink, &to.any, len))
		die("bind");
	len = sizeof(to);
	if (getsockname(sink, &to.any, &len))
		die("getsockname");
	uint64_t *received = mmap(NULL, sizeof(*received), PROT_READ | PROT_WRITE,
				  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (received == MAP_FAILED)
		die("mmap");
	int control[2];
	if (pipe2(control, O_CLOEXEC))
		die("pipe2");
	pid_t child = reader ? fork() : 0;
	if (child < 0)
		die("fork");
	if (reader && !child) {
		close(control[1]);
		receive(sink, control[0], max_seconds, received);
	}
	close(control[0]);

	struct thread *threads = calloc(n, sizeof(*threads));
	if (!threads)
		die("calloc");
	for (unsigned i = 0; i < n; i++) {
		threads[i].sock = socket(to.any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		if (threads[i].sock < 0)
			die("socket");
		if (connect(threads[i].sock, &to.any, len))
			die("connect");
	}
	if (wait_for_start) {
		char line[64];

		printf("ready %d %u\n", (int)getpid(), udp ? ntohs(to.in.sin_port) : 0);
		fflush(stdout);
		if (!fgets(line, sizeof(line), stdin)) {
			fprintf(stderr, "firehose: stdin ended before a line came\n");
			return 1;
		}
	}

	/* Blocked in every thread, and taken by the wait below. */
	sigset_t ends;
	sigemptyset(&ends);
	sigaddset(&ends, SIGTERM);
	sigaddset(&ends, SIGINT);
	if (sigprocmask(SIG_BLOCK, &ends, NULL))
		die("sigprocmask");
	uint64_t cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID), wall = clock_ns(CLOCK_MONOTONIC);
	for (unsigned i = 0; i < n; i++) {
		errno = pthread_create(&threads[i].id, NULL, spray, &threads[i]);
		if (errno)
			die("pthread_create");
	}
	uint64_t until = wall + (uint64_t)(seconds * 1e9);
	for (uint64_t now = wall; now < until; now = clock_ns(CLOCK_MONOTONIC)) {
		struct timespec left = { (time_t)((until - now) / 1000000000u),
					 (long)((until - now) % 1000000000u) };

		if (sigtimedwait(&ends, NULL, &left) > 0)
			break;
		if (errno != EAGAIN && errno != EINTR)
			die("sigtimedwait");
	}
	atomic_store(&stop, true);
	for (unsigned i = 0; i < n; i++) {
		errno = pthread_join(threads[i].id, NULL);
		if (errno)
			die("pthread_join");
	}
	wall = clock_ns(CLOCK_MONOTONIC) - wall;
	cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;

	int status = 0;
	close(control[1]);
	while (reader && waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			die("waitpid");
	if (!WIFEXITED(status) || WEXITSTATUS(status)) {
		fprintf(stderr, "firehose: the receiver failed (status %#x)\n", (unsigned)status);
		return 1;
	}
	uint64_t calls = 0, ok = 0, failed = 0;
	for (unsigned i = 0; i < n; i++) {
		calls += threads[i].calls;
		ok += threads[i].ok;
		failed += threads[i].failed;
		for (int e = 0; e < ERRNO_MAX; e++)
			errnos[e] += threads[i].errnos[e];
	}
	printf("{\"program\":\"firehose\",\"pid\":%d,\"kind\":\"%s\",\"threads\":%u,\"size\":%zu"
	       ",\"batch\":%u,\"port\":%u,\"seconds\":%.6f,\"calls\":%" PRIu64 ",\"sends\":%" PRIu64
	       ",\"sends_per_second\":%.0f,\"ok\":%" PRIu64 ",\"failed\":%" PRIu64 ",\"errnos\":{",
	       (int)getpid(), udp ? "udp" : "unix", n, size, batch, udp ? ntohs(to.in.sin_port) : 0,
	       (double)wall / 1e9, calls, ok + failed, (double)(ok + failed) / ((double)wall / 1e9), ok,
	       failed);
	const char *comma = "";
	for (int e = 0; e < ERRNO_MAX; e++) {
		const char *name = e == LOST ? "LOST" : strerrorname_np(e);

		if (!errnos[e])
			continue;
		if (name)
			printf("%s\"%s\":%" PRIu64, comma, name, errnos[e]);
		else
			printf("%s\"%d\":%" PRIu64, comma, e, errnos[e]);
		comma = ",";
	}
	printf("},\"received\":%" PRIu64 ",\"cpu_ns\":%" PRIu64 ",\"thread_sends\":[", *received, cpu);
	for (unsigned i = 0; i < n; i++)
		printf("%s%" PRIu64, i ? "," : "", threads[i].ok + threads[i].failed);
	printf("]}\n");
	if (fflush(stdout))
		die("stdout");
	return 0;
}
