#define ENGINE portable_engine
#define NAME "portable"
#define LANES 4
#include "engine.h"
