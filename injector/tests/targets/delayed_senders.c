/*
 * delayed_senders: N threads that send datagrams in a loop and tell how long each took.
 *
 *   delayed_senders N GAP_US [options]
 *
 *   --slow-ms N         a send that takes at least this long is slow (default 50)
 *   --handle SIGNAL     count this signal in a handler: USR2 or URG
 *   --storm-us N        send the handled signal to every sending thread so often
 *   --start-on-stdin    print "ready PID PORT", wait for a line on stdin, then send
 *   --max-seconds N     SIGALRM ends the program after N s (default 120)
 *
 * All threads share one UDP socket, whose receiver is a socket of this program that nobody
 * reads. Each sends a byte, notes how long the call took, and pauses for GAP_US. The main
 * thread never sends and blocks the handled signal, so that a sending thread gets it. It
 * obeys the lines on stdin: "report" prints one line of JSON, "reset" forgets all sends so
 * far, "end" reports and ends the program; so does the end of stdin.
 *
 * Output: "inside" is the number of threads inside send() at that moment, "longest_ns" how
 * long the one that is in it for longest has been; "slow" are the slow sends; the times are
 * those of the first 1048576 sends. A send counts when it has returned.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define THREADS_MAX 20000
#define TIMES (1u << 20)
#define STACK (64 << 10)

struct sender {
	pthread_t thread;
	_Atomic uint64_t since; /* start of the send that it is in, or 0 */
};

static struct sender *senders;
static unsigned threads, storm_us;
static useconds_t gap_us;
static int sock, handled;
static uint64_t slow_ns = 50000000;
static uint64_t *times;
static atomic_ullong sends, slow, failed, signals;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void usage(const char *why)
{
	fprintf(stderr,
		"delayed_senders: %s\nusage: delayed_senders N GAP_US [--slow-ms N] "
		"[--handle USR2|URG] [--storm-us N] [--start-on-stdin] [--max-seconds N]\n",
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

static uint64_t now_ns(void)
{
	struct timespec t;

	if (clock_gettime(CLOCK_MONOTONIC, &t))
		die("clock_gettime");
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void count(int signal)
{
	(void)signal;
	signals++;
}

static void *send_forever(void *arg)
{
	struct sender *s = arg;

	for (;;) {
		uint64_t start = now_ns();

		s->since = start;
		if (send(sock, "x", 1, 0) != 1)
			failed++;
		uint64_t ns = now_ns() - start;
		s->since = 0;
		if (ns >= slow_ns)
			slow++;
		uint64_t index = sends++;
		if (index < TIMES)
			times[index] = ns;
		if (gap_us)
			usleep(gap_us);
	}
	return NULL;
}

static void *storm(void *arg)
{
	(void)arg;
	for (;;) {
		for (unsigned i = 0; i < threads; i++)
			pthread_kill(senders[i].thread, handled);
		usleep(storm_us);
	}
	return NULL;
}

static int ascending(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void report(void)
{
	static uint64_t sorted[TIMES];
	uint64_t n = sends, total = n, longest = 0, now = now_ns();
	unsigned inside = 0;
	struct rusage usage;

	for (unsigned i = 0; i < threads; i++) {
		uint64_t since = senders[i].since;

		if (!since)
			continue;
		inside++;
		if (now > since && now - since > longest)
			longest = now - since;
	}
	if (n > TIMES)
		n = TIMES;
	memcpy(sorted, times, n * sizeof(*times));
	qsort(sorted, n, sizeof(*sorted), ascending);
	if (getrusage(RUSAGE_SELF, &usage))
		die("getrusage");
	uint64_t cpu_us = (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000u +
			  (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
	printf("{\"program\":\"delayed_senders\",\"pid\":%d,\"threads\":%u,\"inside\":%u"
	       ",\"longest_ns\":%" PRIu64 ",\"sends\":%" PRIu64 ",\"failed\":%llu,\"slow\":%llu"
	       ",\"min_ns\":%" PRIu64 ",\"p50_ns\":%" PRIu64 ",\"p99_ns\":%" PRIu64
	       ",\"max_ns\":%" PRIu64 ",\"cpu_ns\":%" PRIu64 ",\"signals\":%llu}\n",
	       (int)getpid(), threads, inside, longest, total, (unsigned long long)failed,
	       (unsigned long long)slow, n ? sorted[0] : 0, n ? sorted[(n - 1) / 2] : 0,
	       n ? sorted[(n - 1) * 99 / 100] : 0, n ? sorted[n - 1] : 0, cpu_us * 1000,
	       (unsigned long long)signals);
	if (fflush(stdout))
		die("stdout");
}

static void start(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *arg)
{
	errno = pthread_create(thread, attr, run, arg);
	if (errno)
		die("pthread_create");
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "slow-ms", required_argument, NULL, 'l' },
		{ "handle", required_argument, NULL, 'h' },
		{ "storm-us", required_argument, NULL, 'u' },
		{ "start-on-stdin", no_argument, NULL, 's' },
		{ "max-seconds", required_argument, NULL, 'm' },
		{ 0 },
	};
	bool wait_for_start = false;
	unsigned max_seconds = 120;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'l':
			slow_ns = number(optarg, 1000000, "--slow-ms is a number") * 1000000;
			break;
		case 'h':
			if (strcmp(optarg, "USR2") && strcmp(optarg, "URG"))
				usage("--handle is USR2 or URG");
			handled = optarg[1] == 'S' ? SIGUSR2 : SIGURG;
			break;
		case 'u':
			storm_us = (unsigned)number(optarg, UINT_MAX, "--storm-us is a number");
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
	if (argc - optind != 2)
		usage("two arguments are needed");
	threads = (unsigned)number(argv[optind], THREADS_MAX, "N is 1 to 20000");
	gap_us = (useconds_t)number(argv[optind + 1], UINT_MAX, "GAP_US is a number");
	if (!threads)
		usage("N is at least 1");
	if (storm_us && !handled)
		usage("--storm-us needs --handle");
	alarm(max_seconds);

	struct sockaddr_in to = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(to);
	int receiver = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (receiver < 0 || sock < 0)
		die("socket");
	if (bind(receiver, (struct sockaddr *)&to, len) ||
	    getsockname(receiver, (struct sockaddr *)&to, &len) ||
	    connect(sock, (struct sockaddr *)&to, len))
		die("bind and connect");
	senders = calloc(threads, sizeof(*senders));
	times = calloc(TIMES, sizeof(*times));
	if (!senders || !times)
		die("calloc");
	if (handled) {
		struct sigaction action = { .sa_handler = count, .sa_flags = SA_RESTART };

		if (sigaction(handled, &action, NULL))
			die("sigaction");
	}

	char line[64];
	if (wait_for_start) {
		printf("ready %d %u\n", (int)getpid(), ntohs(to.sin_port));
		fflush(stdout);
		if (!fgets(line, sizeof(line), stdin)) {
			fprintf(stderr, "delayed_senders: stdin ended before a line came\n");
			return 1;
		}
	}
	pthread_attr_t attr;
	if (pthread_attr_init(&attr) || pthread_attr_setstacksize(&attr, STACK)) {
		fprintf(stderr, "delayed_senders: cannot set the stack size\n");
		return 1;
	}
	for (unsigned i = 0; i < threads; i++)
		start(&senders[i].thread, &attr, send_forever, &senders[i]);
	if (handled) {
		sigset_t mine;

		sigemptyset(&mine);
		sigaddset(&mine, handled);
		if (pthread_sigmask(SIG_BLOCK, &mine, NULL))
			die("pthread_sigmask");
	}
	if (storm_us) {
		pthread_t thread;

		start(&thread, &attr, storm, NULL);
	}
	while (fgets(line, sizeof(line), stdin)) {
		if (!strcmp(line, "report\n")) {
			report();
		} else if (!strcmp(line, "reset\n")) {
			sends = 0;
			slow = 0;
		} else if (!strcmp(line, "end\n")) {
			break;
		} else {
			fprintf(stderr, "delayed_senders: not a command: %s", line);
			return 1;
		}
	}
	report();
	/* Threads that sleep inside send() are not waited for. */
	_exit(0);
}
