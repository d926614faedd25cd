# Precompiled headers for tools/install.sh, which sources this file.

# precompile_torch FOLDER: compile torch's headers once, since they take most of the time of each of mmcv's files, and
# make CXX_FOUND a compiler that puts them first. GCC alone; where a file has other options it reads them as text.
precompile_torch() {
    local options
    [[ $CXX_FOUND != *ccache* ]] && $CXX_FOUND --version | grep -q 'Free Software Foundation' || return 0
    options=$(ask '
import sysconfig
from torch.utils.cpp_extension import include_paths
print(*map(sysconfig.get_config_var, ("CFLAGS", "CCSHARED")), *("-I" + path for path in include_paths()))')
    echo '#include <torch/types.h>' > "$1/torch.h"
    # shellcheck disable=SC2086  # one word per option
    $CXX_FOUND $options ${CPPFLAGS:-} -g0 -std=c++17 -x c++-header "$1/torch.h" -o "$1/torch.h.gch" >> "$LOG" 2>&1 ||
        return 0
    printf '#!/bin/sh\ncase $* in *csrc/pytorch/*) set -- -include "%s" "$@" ;; esac\nexec %s "$@"\n' \
        "$1/torch.h" "$CXX_FOUND" > "$1/c++"
    chmod +x "$1/c++"
    CXX_FOUND=$1/c++
}
