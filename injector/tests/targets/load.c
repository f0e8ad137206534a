/*
 * load: clients of a service on loopback, and how long its answers took.
 *
 *   load http|redis PORT CONNECTIONS SECONDS [options]
 *
 *   --path PATH         what "http" asks for (default /)
 *   --body TEXT         what "http" posts to it, instead of getting it; a word
 *   --pause-us N        each connection pauses so long after an answer (default 0)
 *   --slow-ms N         an answer that takes at least this long is slow (default 50)
 *   --start-on-stdin    print "ready PID", wait for a line on stdin, then begin
 *   --max-seconds N     SIGALRM ends the program after N s (default SECONDS + 60)
 *
 * One thread for each connection: it sends a request, waits for the whole answer, pauses, and
 * sends the next. The first request of a connection is not counted; the answer to the very first
 * tells how many bytes an answer has, because every one is as long. "http" keeps the connection,
 * "redis" says PING.
 *
 * Output: one line of JSON. "answers" came within SECONDS; the times are those from a request
 * until its answer; those that begin with "quick_" leave the slow ones out. "cpu_ns" is what the
 * clients used themselves.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CONNECTIONS_MAX 1024
#define SILENCE_MS 200 /* after the first answer */
#define STACK (64 << 10)

struct connection {
	pthread_t thread;
	int fd;
	uint64_t *times;
	size_t count, room;
};

static struct connection connections[CONNECTIONS_MAX];
static char request[2048];
static size_t answer; /* bytes */
static useconds_t pause_us;
static uint64_t end_ns;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void usage(const char *why)
{
	fprintf(stderr,
		"load: %s\nusage: load http|redis PORT CONNECTIONS SECONDS [--path PATH] "
		"[--body TEXT] [--pause-us N] [--slow-ms N] [--start-on-stdin] [--max-seconds N]\n",
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

static uint64_t now_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

static void ask(int fd)
{
	size_t length = strlen(request);

	if (send(fd, request, length, MSG_NOSIGNAL) != (ssize_t)length)
		die("send");
}

static size_t take(int fd, size_t most)
{
	char buffer[4096];
	ssize_t got = recv(fd, buffer, most < sizeof(buffer) ? most : sizeof(buffer), 0);

	if (got < 0)
		die("recv");
	if (!got) {
		fprintf(stderr, "load: the service closed a connection\n");
		exit(1);
	}
	return (size_t)got;
}

static void await_answer(int fd)
{
	for (size_t got = 0; got < answer;)
		got += take(fd, answer - got);
}

/* Connects and asks once; the first learns the length of an answer. */
static int open_connection(const struct sockaddr_in *to)
{
	struct pollfd readable = { .events = POLLIN };
	int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || connect(fd, (const struct sockaddr *)to, sizeof(*to)) ||
	    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)))
		die("connect");
	ask(fd);
	if (answer) {
		await_answer(fd);
		return fd;
	}
	readable.fd = fd;
	do {
		answer += take(fd, SIZE_MAX);
	} while (poll(&readable, 1, SILENCE_MS) > 0);
	return fd;
}

static void *keep_asking(void *arg)
{
	struct connection *c = arg;

	for (;;) {
		uint64_t start = now_ns();

		if (start >= end_ns)
			return NULL;
		ask(c->fd);
		await_answer(c->fd);
		uint64_t now = now_ns();
		if (now >= end_ns)
			return NULL;
		if (c->count == c->room) {
			c->room = c->room ? 2 * c->room : 1024;
			c->times = realloc(c->times, c->room * sizeof(*c->times));
			if (!c->times)
				die("realloc");
		}
		c->times[c->count++] = now - start;
		if (pause_us)
			usleep(pause_us);
	}
}

static int ascending(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* The time that so many of a thousand did not pass. */
static uint64_t per_mille(const uint64_t *sorted, size_t count, unsigned share)
{
	return count ? sorted[(count - 1) * share / 1000] : 0;
}

static void make_request(const char *protocol, const char *path, const char *body)
{
	const char *head = "HTTP/1.1\r\nHost: localhost\r\n";
	int length;

	if (!strcmp(protocol, "redis"))
		length = snprintf(request, sizeof(request), "PING\r\n");
	else if (strcmp(protocol, "http"))
		usage("the first argument is http or redis");
	else if (body)
		length = snprintf(request, sizeof(request), "POST %s %sContent-Length: %zu\r\n\r\n%s", path,
				  head, strlen(body), body);
	else
		length = snprintf(request, sizeof(request), "GET %s %s\r\n", path, head);
	if (length < 0 || (size_t)length >= sizeof(request))
		usage("PATH and TEXT are too long");
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "path", required_argument, NULL, 'a' },
		{ "body", required_argument, NULL, 'b' },
		{ "pause-us", required_argument, NULL, 'p' },
		{ "slow-ms", required_argument, NULL, 'l' },
		{ "start-on-stdin", no_argument, NULL, 's' },
		{ "max-seconds", required_argument, NULL, 'm' },
		{ 0 },
	};
	const char *path = "/", *body = NULL;
	bool wait_for_start = false;
	unsigned max_seconds = 0;
	uint64_t slow_ns = 50000000;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'a':
			path = optarg;
			break;
		case 'b':
			body = optarg;
			break;
		case 'p':
			pause_us = (useconds_t)number(optarg, 999999, "--pause-us is less than a second");
			break;
		case 'l':
			slow_ns = number(optarg, 1000000, "--slow-ms is a number") * 1000000;
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
	if (argc - optind != 4)
		usage("four arguments are needed");
	make_request(argv[optind], path, body);
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	to.sin_port = htons((uint16_t)number(argv[optind + 1], UINT16_MAX, "PORT is a number"));
	size_t count = number(argv[optind + 2], CONNECTIONS_MAX, "CONNECTIONS is 1 to 1024");
	uint64_t seconds = number(argv[optind + 3], 3600, "SECONDS is 1 to 3600");
	if (!count || !seconds)
		usage("CONNECTIONS and SECONDS are at least 1");
	alarm(max_seconds ? max_seconds : (unsigned)seconds + 60);

	for (size_t i = 0; i < count; i++)
		connections[i].fd = open_connection(&to);

	if (wait_for_start) {
		char line[64];

		printf("ready %d\n", (int)getpid());
		fflush(stdout);
		if (!fgets(line, sizeof(line), stdin)) {
			fprintf(stderr, "load: stdin ended before a line came\n");
			return 1;
		}
	}
	pthread_attr_t attr;
	if (pthread_attr_init(&attr) || pthread_attr_setstacksize(&attr, STACK)) {
		fprintf(stderr, "load: cannot set the stack size\n");
		return 1;
	}
	uint64_t cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
	end_ns = now_ns() + seconds * 1000000000u;
	for (size_t i = 0; i < count; i++) {
		errno = pthread_create(&connections[i].thread, &attr, keep_asking, &connections[i]);
		if (errno)
			die("pthread_create");
	}
	size_t answers = 0, slow = 0, next = 0;
	for (size_t i = 0; i < count; i++) {
		errno = pthread_join(connections[i].thread, NULL);
		if (errno)
			die("pthread_join");
		answers += connections[i].count;
	}
	cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu_ns;
	uint64_t *times = calloc(answers + 1, sizeof(*times));
	if (!times)
		die("calloc");
	for (size_t i = 0; i < count; i++) {
		struct connection *c = &connections[i];

		for (size_t j = 0; j < c->count; j++) {
			times[next++] = c->times[j];
			slow += c->times[j] >= slow_ns;
		}
	}
	qsort(times, answers, sizeof(*times), ascending);
	printf("{\"program\":\"load\",\"pid\":%d,\"connections\":%zu,\"seconds\":%" PRIu64
	       ",\"answer_bytes\":%zu,\"answers\":%zu,\"slow\":%zu,\"p50_ns\":%" PRIu64
	       ",\"p90_ns\":%" PRIu64 ",\"p99_ns\":%" PRIu64 ",\"p995_ns\":%" PRIu64
	       ",\"max_ns\":%" PRIu64 ",\"quick_p50_ns\":%" PRIu64 ",\"quick_p99_ns\":%" PRIu64
	       ",\"cpu_ns\":%" PRIu64 "}\n",
	       (int)getpid(), count, seconds, answer, answers, slow,
	       per_mille(times, answers, 500), per_mille(times, answers, 900),
	       per_mille(times, answers, 990), per_mille(times, answers, 995),
	       per_mille(times, answers, 1000), per_mille(times, answers - slow, 500),
	       per_mille(times, answers - slow, 990), cpu_ns);
	if (fflush(stdout))
		die("stdout");
	return 0;
}
