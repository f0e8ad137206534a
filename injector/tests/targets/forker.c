/*
 * forker: forks, and executes itself, in a loop; each child makes one UDP send and exits.
 *
 *   forker COUNT [options]
 *
 *   --no-exec           the child only forks
 *   --rename NAME       the child calls itself NAME (PR_SET_NAME) before it sends
 *   --linger-us N       the child waits N µs before it sends (default 0)
 *   --gap-us N          the parent waits N µs between children (default 0)
 *   --start-on-stdin    print "ready PID PORT", wait for a line on stdin, then fork
 *   --pids              add "child_pids" to the output
 *   --times             add "times_ns", the wall time of each child's send, to the output
 *   --max-seconds N     SIGALRM ends the program after N s (default 120)
 *
 * One child at a time. The parent itself only receives, on 127.0.0.1:PORT.
 *
 * Output: one line of JSON. "sends" counts the children that came to send, "failed" those
 * whose send failed (see "errnos"), "killed" those that a signal ended.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <netinet/in.h>
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
#define COUNT_MAX 1000000
#define CHILD "--child"

/* What a child says, in a memfd that it inherits. */
struct report {
	uint64_t ns; /* 0: did not send */
	int32_t pid, error;
};

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void usage(const char *why)
{
	fprintf(stderr,
		"forker: %s\nusage: forker COUNT [--no-exec] [--rename NAME] [--linger-us N] [--gap-us N] "
		"[--start-on-stdin] [--pids] [--times] [--max-seconds N]\n",
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

static void sleep_us(uint64_t us)
{
	struct timespec t = { .tv_sec = (time_t)(us / 1000000), .tv_nsec = (long)(us % 1000000) * 1000 };

	while (nanosleep(&t, &t) && errno == EINTR)
		;
}

static struct report *map_reports(int fd, uint64_t count)
{
	void *map = mmap(NULL, count * sizeof(struct report), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (map == MAP_FAILED)
		die("mmap");
	return map;
}

static _Noreturn void be_child(unsigned port, struct report *report, uint64_t linger_us, const char *name)
{
	struct sockaddr_in to = { .sin_family = AF_INET,
				  .sin_port = htons((uint16_t)port),
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int sock = socket(AF_INET, SOCK_DGRAM, 0);

	if (sock < 0)
		die("child: socket");
	if (connect(sock, (struct sockaddr *)&to, sizeof(to)))
		die("child: connect");
	if (*name && prctl(PR_SET_NAME, name))
		die("child: PR_SET_NAME");
	report->pid = (int32_t)getpid();
	if (linger_us)
		sleep_us(linger_us);
	uint64_t start = now_ns();
	ssize_t n = send(sock, "x", 1, 0);
	report->error = n < 0 ? errno : 0;
	report->ns = now_ns() - start;
	_exit(0);
}

static int ascending(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
	/* forker --child PORT FD COUNT INDEX LINGER NAME: what a child executes */
	if (argc == 8 && !strcmp(argv[1], CHILD)) {
		uint64_t count = number(argv[4], COUNT_MAX, CHILD), index = number(argv[5], count, CHILD);

		be_child((unsigned)number(argv[2], 65535, CHILD),
			 map_reports((int)number(argv[3], INT_MAX, CHILD), count) + index,
			 number(argv[6], UINT32_MAX, CHILD), argv[7]);
	}

	static const struct option options[] = {
		{ "no-exec", no_argument, NULL, 'n' },
		{ "rename", required_argument, NULL, 'r' },
		{ "linger-us", required_argument, NULL, 'l' },
		{ "gap-us", required_argument, NULL, 'g' },
		{ "start-on-stdin", no_argument, NULL, 's' },
		{ "pids", no_argument, NULL, 'p' },
		{ "times", no_argument, NULL, 't' },
		{ "max-seconds", required_argument, NULL, 'm' },
		{ 0 },
	};
	static uint64_t errnos[ERRNO_MAX];
	bool exec = true, wait_for_start = false, print_pids = false, print_times = false;
	uint64_t linger_us = 0, gap_us = 0;
	unsigned max_seconds = 120;
	const char *name = "";
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'n':
			exec = false;
			break;
		case 'r':
			name = optarg;
			break;
		case 'l':
			linger_us = number(optarg, UINT32_MAX, "--linger-us is a number");
			break;
		case 'g':
			gap_us = number(optarg, UINT32_MAX, "--gap-us is a number");
			break;
		case 's':
			wait_for_start = true;
			break;
		case 'p':
			print_pids = true;
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
	if (argc - optind != 1)
		usage("one argument is needed");
	const uint64_t count = number(argv[optind], COUNT_MAX, "COUNT is 1 to 1000000");
	if (!count)
		usage("COUNT is 1 to 1000000");
	if (strlen(name) > 15)
		usage("NAME has at most 15 bytes");
	alarm(max_seconds);

	static char self[PATH_MAX];
	/* by its own path: through /proc/self/exe its comm would be "exe" */
	if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0)
		die("/proc/self/exe");
	int memory = memfd_create("forker", 0);
	if (memory < 0)
		die("memfd_create");
	if (ftruncate(memory, (off_t)(count * sizeof(struct report))))
		die("ftruncate");
	struct report *reports = map_reports(memory, count);

	struct sockaddr_in to = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(to);
	int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (sock < 0)
		die("socket");
	if (bind(sock, (struct sockaddr *)&to, len))
		die("bind");
	if (getsockname(sock, (struct sockaddr *)&to, &len))
		die("getsockname");
	const unsigned port = ntohs(to.sin_port);

	if (wait_for_start) {
		char line[64];

		printf("ready %d %u\n", (int)getpid(), port);
		fflush(stdout);
		if (!fgets(line, sizeof(line), stdin)) {
			fprintf(stderr, "forker: stdin ended before a line came\n");
			return 1;
		}
	}

	uint64_t received = 0, killed = 0, wall = now_ns();
	for (uint64_t i = 0; i < count; i++) {
		if (gap_us && i)
			sleep_us(gap_us);
		pid_t child = fork();
		if (child < 0)
			die("fork");
		if (!child) {
			alarm(max_seconds);
			if (!exec)
				be_child(port, &reports[i], linger_us, name);
			char a[5][24];
			snprintf(a[0], sizeof(a[0]), "%u", port);
			snprintf(a[1], sizeof(a[1]), "%d", memory);
			snprintf(a[2], sizeof(a[2]), "%" PRIu64, count);
			snprintf(a[3], sizeof(a[3]), "%" PRIu64, i);
			snprintf(a[4], sizeof(a[4]), "%" PRIu64, linger_us);
			execl(self, argv[0], CHILD, a[0], a[1], a[2], a[3], a[4], name, (char *)NULL);
			perror("execl");
			_exit(1);
		}
		int status;
		while (waitpid(child, &status, 0) < 0)
			if (errno != EINTR)
				die("waitpid");
		if (WIFSIGNALED(status)) {
			killed++;
		} else if (WEXITSTATUS(status)) {
			fprintf(stderr, "forker: child %d failed\n", (int)child);
			return 1;
		}
		char byte;
		while (recv(sock, &byte, 1, MSG_DONTWAIT) >= 0)
			received++;
	}
	wall = now_ns() - wall;

	uint64_t *times = calloc(count, sizeof(*times)), sends = 0, failed = 0;
	if (!times)
		die("calloc");
	for (uint64_t i = 0; i < count; i++) {
		if (!reports[i].ns)
			continue;
		times[sends++] = reports[i].ns;
		if (reports[i].error) {
			failed++;
			errnos[reports[i].error < ERRNO_MAX ? reports[i].error : 0]++;
		}
	}
	printf("{\"program\":\"forker\",\"pid\":%d,\"exec\":%s,\"rename\":\"%s\",\"port\":%u"
	       ",\"children\":%" PRIu64 ",\"sends\":%" PRIu64 ",\"ok\":%" PRIu64 ",\"failed\":%" PRIu64
	       ",\"errnos\":{",
	       (int)getpid(), exec ? "true" : "false", name, port, count, sends, sends - failed, failed);
	const char *comma = "";
	for (int e = 0; e < ERRNO_MAX; e++) {
		const char *text = strerrorname_np(e);

		if (!errnos[e])
			continue;
		if (text)
			printf("%s\"%s\":%" PRIu64, comma, text, errnos[e]);
		else
			printf("%s\"%d\":%" PRIu64, comma, e, errnos[e]);
		comma = ",";
	}
	printf("},\"killed\":%" PRIu64 ",\"received\":%" PRIu64 ",\"wall_ns\":%" PRIu64, killed, received,
	       wall);
	if (print_pids) {
		printf(",\"child_pids\":[");
		for (uint64_t i = 0; i < count; i++)
			printf("%s%d", i ? "," : "", (int)reports[i].pid);
		printf("]");
	}
	if (print_times) {
		printf(",\"times_ns\":[");
		for (uint64_t i = 0; i < sends; i++)
			printf("%s%" PRIu64, i ? "," : "", times[i]);
		printf("]");
	}
	qsort(times, sends, sizeof(*times), ascending);
	printf(",\"p50_ns\":%" PRIu64 ",\"max_ns\":%" PRIu64 "}\n", sends ? times[(sends - 1) / 2] : 0,
	       sends ? times[sends - 1] : 0);
	if (fflush(stdout))
		die("stdout");
	return 0;
}
