/*
 * calls: what system calls that nobody delays cost: getpid, and a byte to and fro over pipes.
 *
 *   calls CALLS TRIPS [options]
 *
 *   --start-on-stdin    print "ready PID", wait for a line on stdin, then measure
 *   --max-seconds N     SIGALRM ends the program after N s (default 120)
 *
 * The program makes CALLS calls of getpid, past libc, and TRIPS round trips of a byte over two
 * pipes. The other end is a child, named "echo", that ends with the program; both stay on
 * CPU 0, so that a trip is two writes, two reads and two switches, and no CPU is woken.
 *
 * Output: one line of JSON; "getpid_ns" and "pipe_ns" are the mean times of one call and of
 * one trip.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void usage(const char *why)
{
	fprintf(stderr,
		"calls: %s\nusage: calls CALLS TRIPS [--start-on-stdin] [--max-seconds N]\n",
		why);
	exit(2);
}

static uint64_t number(const char *text, uint64_t max, const char *name)
{
	char *end;

	errno = 0;
	unsigned long long value = strtoull(text, &end, 10);
	if (errno || *text < '0' || *text > '9' || *end || !value || value > max)
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

static _Noreturn void echo(int from, int to)
{
	char byte;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_NAME, "echo");
	close(STDIN_FILENO);
	close(STDOUT_FILENO);
	while (read(from, &byte, 1) == 1)
		if (write(to, &byte, 1) != 1)
			_exit(1);
	_exit(0);
}

static double getpid_ns(uint64_t calls)
{
	uint64_t start = now_ns();

	for (uint64_t i = 0; i < calls; i++)
		syscall(SYS_getpid);
	return (double)(now_ns() - start) / (double)calls;
}

static double pipe_ns(uint64_t trips, int to, int from)
{
	char byte = 'x';
	uint64_t start = now_ns();

	for (uint64_t i = 0; i < trips; i++)
		if (write(to, &byte, 1) != 1 || read(from, &byte, 1) != 1)
			die("pipe");
	return (double)(now_ns() - start) / (double)trips;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "start-on-stdin", no_argument, NULL, 's' },
		{ "max-seconds", required_argument, NULL, 'm' },
		{ 0 },
	};
	bool wait_for_start = false;
	unsigned max_seconds = 120;
	int option, there[2], back[2];

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
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
	uint64_t calls = number(argv[optind], UINT32_MAX, "CALLS is a number from 1");
	uint64_t trips = number(argv[optind + 1], UINT32_MAX, "TRIPS is a number from 1");
	alarm(max_seconds);

	cpu_set_t first;
	CPU_ZERO(&first);
	CPU_SET(0, &first);
	if (sched_setaffinity(0, sizeof(first), &first))
		die("sched_setaffinity");
	if (pipe(there) || pipe(back))
		die("pipe");
	pid_t child = fork();
	if (child < 0)
		die("fork");
	if (!child) {
		close(there[1]);
		close(back[0]);
		echo(there[0], back[1]);
	}
	close(there[0]);
	close(back[1]);

	if (wait_for_start) {
		char line[64];

		printf("ready %d\n", (int)getpid());
		fflush(stdout);
		if (!fgets(line, sizeof(line), stdin)) {
			fprintf(stderr, "calls: stdin ended before a line came\n");
			return 1;
		}
	}
	double call = getpid_ns(calls), trip = pipe_ns(trips, there[1], back[0]);
	printf("{\"program\":\"calls\",\"pid\":%d,\"calls\":%" PRIu64 ",\"trips\":%" PRIu64
	       ",\"getpid_ns\":%.1f,\"pipe_ns\":%.1f}\n",
	       (int)getpid(), calls, trips, call, trip);
	if (fflush(stdout))
		die("stdout");
	return 0;
}
