// See violation.h.
#include "violation.h"

#include <sys/wait.h>

#include <csignal>
#include <cstdlib>
#include <cstring>

extern "C" {
#include "support/child.h"
}

// Where the file's name that ends at `colon` begins, with and without its folder; both `colon` where none ends there.
static std::pair<size_t, size_t> file_before(const std::string &text, size_t colon)
{
    const size_t path = text.find_last_of(" (\n", colon) + 1, folder = text.rfind('/', colon);
    const size_t name = folder != std::string::npos && folder >= path ? folder + 1 : path;
    const std::string suffix = text.substr(0, colon).substr(std::min(text.rfind('.', colon), colon));
    const bool is_file = suffix == ".cu" || suffix == ".cuh" || suffix == ".cpp" || suffix == ".h";
    return is_file ? std::make_pair(path, name) : std::make_pair(colon, colon);
}

static std::string without_places(std::string text)
{
    for (size_t at = 0; (at = text.find("0x", at)) != std::string::npos;)
        text.replace(at, 2 + strspn(text.c_str() + at + 2, "0123456789abcdef"), "P");
    for (size_t colon = 0; (colon = text.find(':', colon + 1)) != std::string::npos;) {
        const auto [path, name] = file_before(text, colon);
        const size_t digits = strspn(text.c_str() + colon + 1, "0123456789");
        if (path == colon || digits == 0) continue;
        text.replace(colon + 1, digits, "L");
        text.erase(path, name - path);
        colon -= name - path;
    }
    return text;
}

// Runs it in a child: what it wrote on stderr, without places, and how it ended.
static std::string run(std::function<void()> act, int *status)
{
    const auto call = [](void *function) { (*static_cast<std::function<void()> *>(function))(); };
    char *text = child_run(call, &act, status);
    const std::string said = without_places(text);
    free(text);
    return said;
}

std::string violation_of(const std::function<void()> &act)
{
    int status;
    const std::string text = run(act, &status);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return text + "survived";
    const size_t begin = text.rfind("sim: ");
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT || begin == std::string::npos)
        return text + "died with status " + std::to_string(status);
    return text.substr(begin, text.find('\n', begin) - begin);
}

std::string output_of(const std::function<void()> &act)
{
    int status;
    return run(act, &status);
}
