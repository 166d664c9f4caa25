// As much JSON as cuDNN's plans and device properties need: read into a tree.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace cudnn
{

struct Json {
    enum Kind { NOTHING, NUMBER, TRUTH, TEXT, LIST, OBJECT } kind = NOTHING;
    double number = 0;
    bool truth = false;
    std::string text;
    std::vector<Json> list;
    std::map<std::string, Json> members;

    // The member of that name and kind; NULL where there is none.
    const Json *member(const std::string &name, Kind wanted) const;
};

// False where `text` isn't one JSON value and nothing else.
bool json_read(const std::string &text, Json &out);

} // namespace cudnn
